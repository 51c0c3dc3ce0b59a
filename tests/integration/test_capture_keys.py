"""Where only keys are captured nothing else is in the log, on the wire, or judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, request

from pgevents_push.cli import pgevents
from pgevents_push.errors import InstallError
from pgevents_push.event import TableName
from tests.fixtures.capture import install, installer, logged
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.watchers import WATCHERS, Asked, Item, Watcher
from tests.fixtures.web import Site

T = TableName("public", "t")
SECRET = "canary-secret"
TABLES = f"""
CREATE TABLE notes (day int, "No." int, owner_id int, body text DEFAULT '{SECRET}', PRIMARY KEY ("No.", day));
INSERT INTO notes VALUES (1, 1, 7), (1, 2, 8)
"""

Serve = Callable[[Flask], Site]
Watch = Callable[..., Watcher]


# --- In the log


def test_the_log_holds_keys_alone(each_version: Database) -> None:
    each_version.execute(
        'CREATE TABLE t ("Key" text, n int, secret text DEFAULT \'canary\', numbers numeric, PRIMARY KEY (n, "Key"))'
    )
    install(each_version, "t", mode="key")
    each_version.execute("INSERT INTO t VALUES ('a\"', 1, 'canary'), ('b', 2, repeat('canary', 100000))")
    each_version.execute("UPDATE t SET secret = 'canary 2', numbers = 1")
    each_version.execute("UPDATE t SET numbers = 1, secret = secret")
    each_version.execute("BEGIN; SET LOCAL pgevents.actor = '7'; UPDATE t SET n = n + 1, secret = 'canary 3'; COMMIT")
    each_version.execute("DELETE FROM t")
    each_version.execute("TRUNCATE t")
    assert "canary" not in str(each_version.execute("SELECT l::text FROM pgevents.log AS l"))
    events = logged(each_version)
    assert [(event.type, event.pk, event.old_pk, event.changed, event.actor) for event in events] == [
        ("i", {"n": 1, "Key": 'a"'}, None, [], None), ("i", {"n": 2, "Key": "b"}, None, [], None),
        ("u", {"n": 1, "Key": 'a"'}, None, [], None), ("u", {"n": 2, "Key": "b"}, None, [], None),
        ("u", {"n": 2, "Key": 'a"'}, {"n": 1, "Key": 'a"'}, ["n"], "7"),
        ("u", {"n": 3, "Key": "b"}, {"n": 2, "Key": "b"}, ["n"], "7"),
        ("d", {"n": 2, "Key": 'a"'}, None, [], None), ("d", {"n": 3, "Key": "b"}, None, [], None),
        ("t", {}, None, [], None),
    ]  # fmt: skip
    assert [event.truncated for event in events] == [True] * 8 + [False]
    assert {(event.new, event.old) for event in events} == {(None, None)}


def test_it_holds_them_alone_where_the_table_is_no_longer_what_it_was(each_version: Database) -> None:
    each_version.execute("CREATE TABLE t (id int PRIMARY KEY, part int)")
    install(each_version, "t", mode="key")
    each_version.execute("ALTER TABLE t ADD secret text DEFAULT 'canary'; ALTER TABLE t RENAME id TO number")
    each_version.execute("INSERT INTO t VALUES (1), (2)")
    each_version.execute("UPDATE t SET secret = 'canary 2'")
    each_version.execute("UPDATE t SET number = number + 10, part = 1")
    each_version.execute("UPDATE t SET part = 1")
    each_version.execute("DELETE FROM t")
    assert "canary" not in str(each_version.execute("SELECT l::text FROM pgevents.log AS l"))
    events = logged(each_version)
    assert [(event.type, event.pk["number"], event.old_pk, event.changed, event.truncated) for event in events] == [
        ("i", 1, None, [], True), ("i", 2, None, [], True),
        ("u", 1, None, [], True), ("u", 2, None, [], True),
        ("u", 11, {"number": 1}, ["number"], True), ("u", 12, {"number": 2}, ["number"], True),
        ("d", 11, None, [], True), ("d", 12, None, [], True),
    ]  # fmt: skip


def test_partitions_have_keys_too(each_version: Database) -> None:
    each_version.execute(
        "CREATE TABLE t (id int PRIMARY KEY, secret text) PARTITION BY RANGE (id);"
        "CREATE TABLE leaf (secret text, id int NOT NULL); ALTER TABLE t ATTACH PARTITION leaf DEFAULT"
    )
    install(each_version, "t", mode="key")
    each_version.execute("INSERT INTO leaf VALUES ('canary', 1); UPDATE t SET secret = 'canary 2'")
    assert [(event.type, event.pk, event.new) for event in logged(each_version)] == [
        ("i", {"id": 1}, None),
        ("u", {"id": 1}, None),
    ]


@pytest.mark.parametrize("later", [False, True])
def test_a_table_without_a_key_is_refused(database: Database, later: bool) -> None:
    ours = installer(database, mode="key")
    database.execute(f"CREATE TABLE t (id int {'PRIMARY KEY' if later else ''})")
    if later:
        assert ours.install([T]).complete
        database.execute(
            "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ALTER id DROP NOT NULL; INSERT INTO t VALUES (NULL)"
        )
        assert [(event.type, event.pk) for event in logged(database)] == [("i", {})]
    with pytest.raises(InstallError, match=r'public\.t: it has no primary key, which is all that capture="key" writes'):
        ours.install([T])


# --- At clients


@pytest.fixture
def shop(make_shop: MakeShop, database: Database) -> Shop:
    database.execute(TABLES)
    shop = make_shop(PGEVENTS_HEARTBEAT_SECONDS=0.2)
    shop.events.expose("notes", columns="*", authorize=allowed, capture="key")
    shop.events.on_change("notes")(lambda event: shop.heard.append(repr((event.type, event.row, event.truncated))))
    return shop.register().start()


def allowed(subscription: Any) -> Any:
    """What may be seen is told by a header, so that one function does for all."""
    wanted = request.headers["X-User"]
    if wanted == "owner":
        return subscription.c["owner_id"] == 7
    if wanted == "text":
        return sa.column("owner_id") == 7
    return True if wanted == "all" else subscription.c["No."] == int(wanted)


@pytest.fixture
def site(shop: Shop, serve: Serve) -> Site:
    return serve(shop.app)


@pytest.fixture(params=WATCHERS, ids=lambda kind: kind.kind)
def watch(request: pytest.FixtureRequest, site: Site) -> Iterator[Watch]:
    opened: list[Watcher] = []

    def open_watcher(*filters: str, **asked: Any) -> Watcher:
        opened.append(request.param(site.port, Asked(table="notes", filters=filters, **{"user": "all", **asked})))
        if not opened[-1].ended:
            opened[-1].answer = next(opened[-1])  # type: ignore[attr-defined]
        return opened[-1]

    yield open_watcher
    for watcher in opened:
        watcher.close()


def told(items: list[Item]) -> list[tuple[Any, ...]]:
    return [(item.name, item.data["pk"], item.data["row"], item.data["old"], item.data["changed"]) for item in items]


def test_clients_get_keys_and_no_more(watch: Watch, shop: Shop, database: Database) -> None:
    every, second = watch(), watch('"No."=eq.2')
    database.execute("UPDATE notes SET body = 'canary-secret 2', owner_id = 1")
    database.execute('UPDATE notes SET "No." = 3 WHERE "No." = 2')
    database.execute('UPDATE notes SET "No." = 2 WHERE "No." = 1')
    database.execute("DELETE FROM notes")
    items = every.changes(6)
    assert told(items) == [
        ("update", {"No.": 1, "day": 1}, None, None, []), ("update", {"No.": 2, "day": 1}, None, None, []),
        ("update", {"No.": 3, "day": 1}, None, None, ["No."]), ("update", {"No.": 2, "day": 1}, None, None, ["No."]),
        ("delete", {"No.": 3, "day": 1}, None, None, []), ("delete", {"No.": 2, "day": 1}, None, None, []),
    ]  # fmt: skip
    assert all(item.data["truncated"] for item in items)
    assert [(item.name, item.data["pk"]["No."]) for item in second.changes(4)] == [
        ("update", 2), ("delete", 2), ("insert", 2), ("delete", 2),
    ]  # fmt: skip
    for watcher in (every, second):
        assert b"canary" not in watcher.raw
        assert b"owner_id" not in watcher.raw
    wait_until(lambda: len(shop.heard) == 6)
    assert shop.heard[0] == "('update', None, True)"


def test_rows_that_are_shown_first_are_keys_too(watch: Watch) -> None:
    watcher = watch(snapshot=True)
    first: Item = watcher.answer  # type: ignore[attr-defined]
    assert first.data["rows"] == [
        {"pk": {"No.": 1, "day": 1}, "row": {"day": 1, "No.": 1}},
        {"pk": {"No.": 2, "day": 1}, "row": {"day": 1, "No.": 2}},
    ]
    assert b"canary" not in watcher.raw


def test_rights_over_the_key_are_judged(watch: Watch, database: Database) -> None:
    watcher = watch(user="2")
    database.execute("UPDATE notes SET body = 'canary 2'")
    database.execute('UPDATE notes SET "No." = 3 WHERE "No." = 2')
    database.execute('UPDATE notes SET "No." = 2 WHERE "No." = 1')
    database.execute("INSERT INTO notes VALUES (5, 2, 1), (5, 3, 1)")
    assert [(item.name, item.data["pk"]) for item in watcher.changes(4)] == [
        ("update", {"No.": 2, "day": 1}), ("delete", {"No.": 2, "day": 1}), ("insert", {"No.": 2, "day": 1}),
        ("insert", {"No.": 2, "day": 5}),
    ]  # fmt: skip


@pytest.mark.parametrize("user", ["owner", "text"])
def test_rights_over_other_columns_are_none(watch: Watch, user: str, caplog: pytest.LogCaptureFixture) -> None:
    """They would be judged on values that are not there."""
    watcher = watch(user=user)
    assert watcher.ended == "403" or watcher.answer.data["code"] == 403  # type: ignore[attr-defined]
    said = 'capture="key", so only columns of its key can be compared' if user == "text" else "failed: denied"
    assert said in caplog.text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"filters": ("owner_id=eq.7",)}, b"Of this table only the key is captured"),
        ({"filters": ('or=("No.".eq.1,body.is.null)',)}, b"Of this table only the key is captured"),
        ({"columns": ("body",)}, b"is not exposed"),
    ],
)
def test_filters_and_columns_beyond_the_key_are_refused(watch: Watch, asked: dict[str, Any], said: bytes) -> None:
    more = {name: value for name, value in asked.items() if name != "filters"}
    watcher = watch(*asked.get("filters", ()), **more)
    assert watcher.ended == "400" or watcher.answer.data["code"] == 400  # type: ignore[attr-defined]
    assert said in watcher.raw
    assert b"canary" not in watcher.raw


def test_what_was_captured_with_its_rows_is_shown_without(
    make_shop: MakeShop, database: Database, serve: Serve
) -> None:
    """The old trigger is still there, or an old event in the log: the declaration decides what is shown."""
    database.execute(TABLES)
    shop = make_shop(PGEVENTS_HEARTBEAT_SECONDS=0.2, PGEVENTS_INSTALL="verify")
    install(database, "notes")
    shop.events.expose("notes", columns="*", public=True, capture="key")
    shop.register().start()
    assert shop.runtime.installer().status(shop.runtime.tables).tables == {TableName("public", "notes"): "outdated"}
    watcher = WATCHERS[0](serve(shop.app).port, Asked(table="notes"))
    assert next(watcher).name == "ready"
    database.execute("INSERT INTO notes VALUES (9, 9, 9)")
    [item] = watcher.changes(1)
    assert item.data["row"] == {"day": 9, "No.": 9}
    assert b"canary" not in watcher.raw
    watcher.close()


def test_the_types_of_clients_have_the_key_alone(shop: Shop) -> None:
    printed = shop.app.test_cli_runner().invoke(pgevents, ["types"]).output
    assert '"No."' in printed
    assert "day" in printed
    assert "body" not in printed
    assert "owner_id" not in printed
