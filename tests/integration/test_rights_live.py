"""Filters and rights as clients meet them, over both transports: what comes, what does not, and no byte more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, abort, request

from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.watchers import WATCHERS, Asked, Item, Watcher
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]
SETTINGS = {"PGEVENTS_HEARTBEAT_SECONDS": 0.2, "PGEVENTS_MAX_ROW_BYTES": 2000}

TABLES = """
CREATE TABLE orders (
    id int PRIMARY KEY, owner_id int, status text, total numeric, secret text DEFAULT 'canary-secret'
);
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE "Odd Table" (
    "Key A" int, "key.b" uuid, mood mood, paid boolean, "when" timestamptz, day date, owner_id int,
    PRIMARY KEY ("Key A", "key.b")
);
CREATE TABLE keyless (owner_id int, note text);
"""


def owner(subscription: Any) -> Any:
    """Each sees the rows of its own; "all" sees everything, nobody is unknown."""
    user = request.headers.get("X-User", "")
    if not user:
        abort(401)
    return True if user == "all" else subscription.c.owner_id == int(user)


def in_shop(make_shop: MakeShop, database: Database, **settings: Any) -> Shop:
    database.execute(TABLES)
    shop = make_shop(**{**SETTINGS, **settings})
    shop.events.expose("orders", columns=["id", "status", "total"], authorize=owner)
    shop.events.expose("Odd Table", columns="*", authorize=owner)
    shop.events.expose("keyless", columns=["note"], authorize=owner)
    return shop.register().start()


@pytest.fixture
def the_shop(make_shop: MakeShop, database: Database) -> Shop:
    return in_shop(make_shop, database)


@pytest.fixture
def site(the_shop: Shop, serve: Serve) -> Site:
    return serve(the_shop.app)


Watch = Callable[..., Watcher]


@pytest.fixture(params=WATCHERS, ids=lambda kind: kind.kind)
def watch(request: pytest.FixtureRequest, site: Site) -> Iterator[Watch]:
    """Return what opens a watcher, and waits until it is answered; all are closed after the test."""
    opened: list[Watcher] = []

    def open_watcher(*filters: str, at: Site | None = None, **asked: Any) -> Watcher:
        asked = {"user": "all", **asked}
        opened.append(request.param((at or site).port, Asked(filters=filters, **asked)))
        if not opened[-1].ended:
            opened[-1].answer = next(opened[-1])  # type: ignore[attr-defined]
        return opened[-1]

    yield open_watcher
    for watcher in opened:
        watcher.close()


def short(items: list[Item]) -> list[tuple[str, Any]]:
    return [(item.name, item.data["pk"]) for item in items]


# --- In and out


def test_who_owns_rows_sees_them_come_and_go_and_nothing_else(watch: Watch, database: Database) -> None:
    mine, theirs = watch(user="7"), watch(user="8")
    database.execute("INSERT INTO orders VALUES (1, 7, 'canary-seven', 1), (2, 8, 'canary-eight', 1)")
    database.execute("UPDATE orders SET total = 2")
    database.execute("UPDATE orders SET owner_id = 15 - owner_id")
    database.execute("UPDATE orders SET id = id + 10")
    database.execute("DELETE FROM orders")
    database.execute("TRUNCATE orders")
    seven, eight = mine.changes(7), theirs.changes(7)
    assert short(seven) == [
        ("insert", {"id": 1}), ("update", {"id": 1}), ("delete", {"id": 1}), ("insert", {"id": 2}),
        ("update", {"id": 12}), ("delete", {"id": 12}), ("truncate", {}),
    ]  # fmt: skip
    assert [kind for kind, _ in short(eight)] == [
        "insert", "update", "insert", "delete", "update", "delete", "truncate",
    ]  # fmt: skip
    gone, come, moved = seven[2].data, seven[3].data, seven[4].data
    assert (gone["row"], gone["old"], gone["changed"]) == (None, None, [])
    assert come["row"] == {"id": 2, "status": "canary-eight", "total": 2}
    assert moved["old_pk"] == {"id": 2}
    assert seven[5].data["old"] == {"id": 12, "status": "canary-eight", "total": 2}
    before_it_came = bytes(mine.raw).split(b'"canary-eight"')[0]
    assert b"eight" not in before_it_came
    for watcher in (mine, theirs):
        assert b"canary-secret" not in watcher.raw
        assert b"owner_id" not in watcher.raw


def test_a_filter_narrows_what_one_may_see(watch: Watch, database: Database) -> None:
    dear = watch("total=gt.10", "or=(status.eq.open,status.is.null)", user="7")
    database.execute("INSERT INTO orders VALUES (1, 7, 'open', 11), (2, 8, 'open', 11), (3, 7, 'open', 10)")
    database.execute("INSERT INTO orders VALUES (4, 7, NULL, 11), (5, 7, 'sent', 11)")
    database.execute("UPDATE orders SET total = total + 1 WHERE id IN (3, 5)")
    database.execute("UPDATE orders SET status = 'sent' WHERE id = 1")
    database.execute("DELETE FROM orders WHERE id IN (1, 4)")
    assert short(dear.changes(5)) == [
        ("insert", {"id": 1}), ("insert", {"id": 4}), ("insert", {"id": 3}),
        ("delete", {"id": 1}), ("delete", {"id": 4}),
    ]  # fmt: skip


def test_events_and_columns_are_those_of_what_one_sees(watch: Watch, database: Database) -> None:
    narrow = watch(user="7", columns=["status"], events=["insert", "delete"])
    database.execute("INSERT INTO orders VALUES (1, 8, 'open', 1)")
    database.execute("UPDATE orders SET owner_id = 7")
    database.execute("UPDATE orders SET status = 'sent'")
    database.execute("UPDATE orders SET owner_id = 8")
    come, gone = narrow.changes(2)
    assert (come.name, come.data["row"]) == ("insert", {"status": "open"})
    assert (gone.name, gone.data["row"], gone.data["pk"]) == ("delete", None, {"id": 1})


def test_several_tables_in_one_stream_have_a_filter_each(site: Site, database: Database) -> None:
    stream = site.stream(
        "table=orders,keyless&filter=orders.status=eq.open&filter=keyless.note=eq.b&orders.or=(id.eq.1,id.eq.2)",
        X_User="all",
    )
    assert stream.next().name == "ready"
    database.execute("INSERT INTO orders VALUES (1, 7, 'open', 1), (3, 7, 'open', 1), (2, 7, 'sent', 1)")
    database.execute("INSERT INTO keyless VALUES (7, 'a'), (7, 'b')")
    database.execute("UPDATE orders SET status = 'open'")
    found = [(frame.data["table"], frame.data["row"]) for frame in stream.changes(3)]
    assert found == [
        ("orders", {"id": 1, "status": "open", "total": 1}), ("keyless", {"note": "b"}),
        ("orders", {"id": 2, "status": "open", "total": 1}),
    ]  # fmt: skip


# --- Odd tables


KEY = "00000000-0000-0000-0000-00000000000{}"


def test_odd_names_keys_and_types(watch: Watch, database: Database) -> None:
    filters = {
        f"key.b=eq.{KEY.format(1)}": [1],
        "mood=eq.sad": [2],
        "paid=is.true": [1],
        "when=gte.2026-01-01T00:00:00+01:00": [1, 2],
        "day=lt.2026-01-02": [1],
        "Key A=eq.2": [2],
    }
    watchers = [watch(text, table='"Odd Table"') for text in filters]
    mine = watch(table='"Odd Table"', user="7")
    at = "timestamptz '2025-12-31 23:30:00+00'"
    database.execute(f"""
        INSERT INTO "Odd Table" VALUES (1, '{KEY.format(1)}', 'glad', true, {at}, '2026-01-01', 7),
            (2, '{KEY.format(2)}', 'sad', NULL, {at}, '2026-01-02', 8)
    """)
    database.execute("""DELETE FROM "Odd Table" """)
    for watcher, expected in zip(watchers, filters.values(), strict=True):
        found = short(watcher.changes(2 * len(expected)))
        assert [pk["Key A"] for _, pk in found] == expected * 2
    assert short(mine.changes(2))[0] == ("insert", {"Key A": 1, "key.b": KEY.format(1)})


def test_a_table_without_a_key_says_which_row_has_gone(watch: Watch, database: Database) -> None:
    mine = watch(user="7", table="keyless")
    database.execute("INSERT INTO keyless VALUES (7, 'a'), (8, 'canary-b')")
    database.execute("UPDATE keyless SET owner_id = 9, note = 'canary-c' WHERE owner_id = 7")
    _, gone = mine.changes(2)
    assert (gone.name, gone.data["pk"], gone.data["old"], gone.data["row"]) == ("delete", {}, {"note": "a"}, None)
    assert b"canary" not in mine.raw


def test_a_row_that_is_too_large_to_be_judged_is_a_gap_and_the_stream_goes_on(watch: Watch, database: Database) -> None:
    mine, everything, by_key = watch(user="7"), watch(), watch("id=eq.1")
    database.execute("INSERT INTO orders VALUES (1, 8, repeat('canary-large', 1000), 1)")
    database.execute("INSERT INTO orders VALUES (2, 7, 'a', 1)")
    gap, change = mine.until("gap"), mine.until("insert")
    assert (gap.data["reason"], change.data["pk"]) == ("overflow", {"id": 2})
    assert gap.cursor not in ("", change.cursor)
    large = everything.until("insert").data
    assert (large["truncated"], large["row"], large["pk"]) == (True, None, {"id": 1})
    assert by_key.until("insert").data["truncated"] is True
    assert b"canary" not in mine.raw


# --- Who comes back


@pytest.mark.parametrize("history", [0, 16_000_000], ids=["from the log", "from memory"])
def test_who_comes_back_gets_what_who_stayed_got(
    make_shop: MakeShop, serve: Serve, database: Database, history: int
) -> None:
    site = serve(in_shop(make_shop, database, PGEVENTS_HISTORY_BYTES=history, PGEVENTS_MAX_BATCH_EVENTS=3).app)
    asked = Asked(user="7", filters=["total=lt.9"])
    stayed = [kind(site.port, asked) for kind in WATCHERS]
    left = WATCHERS[0](site.port, asked)
    for watcher in (*stayed, left):
        assert watcher.until("ready")
    left.close()
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders SELECT n, 6 + n % 3, 'canary' || n % 3, n FROM generate_series(1, 20) n")
        cursor.execute("UPDATE orders SET owner_id = 6 + (owner_id - 5) % 3")
        cursor.execute("UPDATE orders SET total = total - 5, id = id + 100 WHERE owner_id = 7")
        cursor.execute("DELETE FROM orders WHERE owner_id = 7 AND id % 2 = 0")
    database.execute("TRUNCATE orders")
    expected = [stayed[0].changes(1)[0]]
    while expected[-1].name != "truncate":
        expected += stayed[0].changes(1)
    assert len(expected) >= 15
    for kind in (*WATCHERS, *WATCHERS):
        back = kind(site.port, asked._replace(since=left.cursor))
        assert back.until("ready").data["resumed"] is True
        assert same(back.changes(len(expected))) == same(expected)
        back.close()
    assert same(stayed[1].changes(len(expected))) == same(expected)
    for watcher in stayed:
        watcher.close()


def same(items: list[Item]) -> list[Any]:
    return [
        (item.name, *((key, item.data[key]) for key in ("id", "pk", "row", "old", "changed", "tx", "last")))
        for item in items
    ]


def test_rights_are_those_of_now_when_one_comes_back(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    rights: dict[str, Any] = {"ann": 7}
    database.execute(TABLES)
    shop = make_shop(**SETTINGS)

    def may_see(subscription: Any) -> Any:
        mine = rights.get(request.headers["X-User"])
        return mine is not None and subscription.c.owner_id == mine

    shop.events.expose("orders", columns=["id", "status"], authorize=may_see)
    site = serve(shop.register().start().app)
    for kind in WATCHERS:
        rights["ann"] = 7
        first = kind(site.port, Asked(user="ann"))
        assert first.until("ready")
        database.execute("INSERT INTO orders VALUES (1, 7, 'canary-7', 0), (2, 8, 'canary-8', 0)")
        first.close()
        rights["ann"] = 8
        back = kind(site.port, Asked(user="ann", since=first.cursor))
        assert back.until("ready").data["resumed"] is True
        assert [item.data["pk"]["id"] for item in back.changes(1)] == [2]
        assert b"canary-7" not in back.raw
        del rights["ann"]
        refused = kind(site.port, Asked(user="ann", since=first.cursor))
        assert not [item for item in refused if item.name != "error"]
        assert refused.ended == "403"
        database.execute("DELETE FROM orders")
        back.close()
        refused.close()


# --- What is refused


@pytest.mark.parametrize(
    "text", ["secret=eq.canary-secret", "nothing=eq.1", "owner_id=eq.7", "status=xx.1", "id=eq.x", "and=(", "id=eq."]
)
def test_a_bad_filter_is_refused_and_nothing_is_evaluated(watch: Watch, text: str) -> None:
    watcher = watch(text)
    assert watcher.ended == "400"
    assert b"filter: " in watcher.raw
    assert b"canary" not in watcher.raw.replace(text.encode(), b"")


def test_nobody_is_told_of_columns_before_it_may_see_the_table(watch: Watch) -> None:
    for text in ("status=eq.x", "nothing=eq.x", "nonsense"):
        assert watch(text, user="").ended == "401"


def test_rights_that_cannot_be_judged_deny_and_are_counted(
    make_shop: MakeShop, serve: Serve, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.execute(TABLES)
    shop = make_shop(**SETTINGS)
    shop.events.expose("orders", columns=["id"], authorize=lambda s: sa.func.lower(s.c.status) == "open")
    site = serve(shop.register().start().app)
    for kind in WATCHERS:
        watcher = kind(site.port, Asked())
        assert not [item for item in watcher if item.name != "error"]
        assert watcher.ended == "403"
        watcher.close()
    assert shop.runtime.gate.counts == {"unsupported_rights": 2}
    assert "cannot be judged on changes: denied" in caplog.text


# --- Columns that change


BYE = {"sse": "bye schema", "ws": "closed 1012"}

ALTERED = {
    "retyped": "ALTER TABLE orders ALTER owner_id TYPE bigint",
    "retyped and shown": "ALTER TABLE orders ALTER status TYPE varchar(20)",
    "swapped": """
        ALTER TABLE orders RENAME owner_id TO x; ALTER TABLE orders RENAME total TO owner_id;
        ALTER TABLE orders ALTER owner_id TYPE int; ALTER TABLE orders RENAME x TO total
    """,
    "made anew": "DROP TABLE orders; CREATE TABLE orders (id int PRIMARY KEY, owner_id bigint, status text, total int)",
}


@pytest.mark.parametrize("ddl", ALTERED.values(), ids=ALTERED)
def test_columns_that_change_under_a_stream_end_it_and_who_comes_back_is_told(
    watch: Watch, the_shop: Shop, database: Database, ddl: str
) -> None:
    mine = watch(user="7")
    database.execute("INSERT INTO orders VALUES (1, 7, 'a', 8)")
    assert short(mine.changes(1)) == [("insert", {"id": 1})]
    database.execute(ddl)
    wait_until(lambda: the_shop.runtime.installer().status(the_shop.runtime.tables).complete)
    columns = "orders (id, owner_id, status, total)"
    database.execute(f"INSERT INTO {columns} VALUES (2, 8, 'canary-b', 7), (3, 7, 'canary-c', 8)")
    for item in mine:
        assert item.name in ("bye", "sync"), item
    assert mine.ended in (BYE[mine.kind], BYE[mine.kind].replace("schema", "lost"))
    assert b"canary" not in mine.raw
    back = watch(user="7", since=mine.cursor)
    assert (back.answer.name, back.answer.data["resumed"]) == ("ready", False)  # type: ignore[attr-defined]
    assert next(back).data["reason"] == "schema"
    database.execute(f"INSERT INTO {columns} VALUES (4, 8, 'canary-b', 7), (5, 7, 'c', 8)")
    assert short(back.changes(1)) == [("insert", {"id": 5})]
    back.close()
    again = watch(user="7", since=back.cursor)
    assert again.answer.data["resumed"] is True  # type: ignore[attr-defined]


def test_columns_that_change_while_one_is_away(watch: Watch, database: Database) -> None:
    mine = watch(user="7")
    mine.close()
    database.execute("INSERT INTO orders VALUES (1, 7, 'a', 8)")
    database.execute("ALTER TABLE orders ALTER owner_id TYPE text")
    database.execute("INSERT INTO orders VALUES (2, '7', 'a', 8)")
    back = watch("status=eq.a", since=mine.cursor)  # owner_id is not compared here, and not shown
    assert back.answer.data["resumed"] is True  # type: ignore[attr-defined]
    assert [pk["id"] for _, pk in short(back.changes(2))] == [1, 2]


def test_a_column_that_is_added_disturbs_nobody(watch: Watch, database: Database) -> None:
    mine = watch(user="7")
    database.execute("INSERT INTO orders VALUES (1, 7, 'a', 8)")
    database.execute("ALTER TABLE orders ADD more text DEFAULT 'canary-more'")
    database.execute("INSERT INTO orders VALUES (2, 7, 'a', 8)")
    assert [pk["id"] for _, pk in short(mine.changes(2))] == [1, 2]
    assert b"canary" not in mine.raw


def test_a_compared_column_that_is_dropped_denies(
    watch: Watch, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    mine, filtered = watch(user="7"), watch("total=eq.8")
    database.execute("ALTER TABLE orders DROP owner_id, DROP total")
    database.execute("INSERT INTO orders VALUES (1, 'canary', 'canary')")
    for watcher in (mine, filtered):
        assert not [item for item in watcher if item.name not in ("bye", "sync")]
        assert watcher.ended == BYE[mine.kind]
        assert b"canary" not in watcher.raw
    assert watch(user="7", since=mine.cursor).ended == "403"
    assert watch("total=eq.8", since=filtered.cursor).ended == "400"
    assert "authorize for public.orders failed: denied" in caplog.text


def test_a_virtual_generated_column_is_not_compared(
    make_shop: MakeShop, serve: Serve, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL does not compute it for triggers: each row would have a null there, and IS NULL be true of all."""
    [[version]] = database.execute("SELECT current_setting('server_version_num')::int")
    kind = "VIRTUAL" if version >= 180000 else "STORED"
    database.execute(
        f"CREATE TABLE sums (id int PRIMARY KEY, total int, half int GENERATED ALWAYS AS (total / 2) {kind})"
    )
    shop = make_shop(**SETTINGS)
    shop.events.expose("sums", columns="*", authorize=lambda subscription: subscription.c.half.is_(None))
    site = serve(shop.register().start().app)
    for kind_ in WATCHERS:
        watcher = kind_(site.port, Asked("sums"))
        answers = [item.name for item in watcher if kind == "VIRTUAL"]
        assert watcher.ended == ("403" if kind == "VIRTUAL" else "")
        assert answers in ([], ["error"])
        watcher.close()


def test_an_enum_label_that_is_renamed_is_told(watch: Watch, database: Database) -> None:
    sad = watch("mood=eq.sad", table='"Odd Table"')
    database.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    database.execute(f"""INSERT INTO "Odd Table" VALUES (1, '{KEY.format(1)}', 'blue')""")
    assert not [item for item in sad if item.name not in ("bye", "sync")]
    assert watch("mood=eq.sad", table='"Odd Table"', since=sad.cursor).ended == "400"
    assert watch("mood=eq.blue", table='"Odd Table"', since=sad.cursor).until("gap").data["reason"] == "schema"
