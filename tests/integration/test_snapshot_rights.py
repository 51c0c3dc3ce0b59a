"""Rows are shown to those who may see them, as their changes are: filters, rights, keys, and columns that change."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from flask import abort, request

from pgevents_push.extension import snapshots
from pgevents_push.listener import find_table
from tests.fixtures.joined import Serve
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop
from tests.fixtures.watchers import WATCHERS, Asked, SseWatcher, Watcher
from tests.fixtures.web import Site

TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, owner_id int, status text, secret text DEFAULT 'canary');
INSERT INTO orders SELECT n, 7 + n % 2, CASE WHEN n > 6 THEN 'open' ELSE 'it''s 5% \\ "off"' END
FROM generate_series(1, 9) AS n;
CREATE TABLE "Odd %% Table" (owner_id int, "%s" int, "pgevents" text, PRIMARY KEY ("%s", owner_id));
INSERT INTO "Odd %% Table" VALUES (7, 1, 'a'), (8, 2, 'b'), (7, 3, NULL);
"""
both = pytest.mark.parametrize("kind", WATCHERS, ids=lambda kind: kind.kind)


def owner(subscription: Any) -> Any:
    user = request.headers.get("X-User", "")
    if not user:
        abort(401)
    return {"all": True, "none": False}.get(user) if not user.isdigit() else subscription.c.owner_id == int(user)


@pytest.fixture
def site(make_shop: MakeShop, serve: Serve, database: Database) -> Site:
    database.execute(TABLES)
    shop = make_shop()
    shop.events.expose("orders", columns=["id", "status"], authorize=owner)
    shop.events.expose('"Odd %% Table"', columns=["%s", "pgevents"], authorize=owner)
    return serve(shop.register().start().app)


def shown(watcher: Watcher) -> list[Any]:
    """The rows before `ready`; the watcher is closed."""
    rows: list[Any] = []
    for item in watcher:
        if item.name == "ready":
            break
        assert item.name == "snapshot", item
        rows += item.data["rows"]
    watcher.close()
    assert b"canary" not in watcher.raw
    assert b"owner_id" not in watcher.raw
    return rows


@both
@pytest.mark.parametrize(
    ("user", "filters", "ids"),
    [
        ("all", (), range(1, 10)),
        ("7", (), (2, 4, 6, 8)),
        ("8", ("status=eq.open",), (7, 9)),
        ("8", ("or=(id.lt.2,id.gte.9)",), (1, 9)),
        ("all", ('status=eq.it\'s 5% \\ "off"', "id=neq.3"), (1, 2, 4, 5, 6)),
        ("9", (), ()),
    ],
)
def test_filters_and_rights(site: Site, kind: type[Watcher], user: str, filters: tuple[str, ...], ids: Any) -> None:
    rows = shown(kind(site.port, Asked("orders", user, filters, snapshot=True)))
    assert [row["pk"]["id"] for row in rows] == list(ids)
    assert all(list(row["row"]) == ["id", "status"] for row in rows)
    query = "".join(f"&filter={quote(text)}" for text in filters)
    answer = site.ask(f"/pgevents/snapshot?table=orders{query}", X_User=user)
    assert json.loads(answer.body)["rows"] == rows


@both
def test_odd_names_and_a_key_that_is_partly_hidden(site: Site, kind: type[Watcher]) -> None:
    rows = shown(kind(site.port, Asked('"Odd %% Table"', "7", snapshot=True)))
    assert rows == [
        {"pk": {"%s": 1}, "row": {"%s": 1, "pgevents": "a"}},
        {"pk": {"%s": 3}, "row": {"%s": 3, "pgevents": None}},
    ]


@pytest.mark.parametrize(
    ("query", "user", "status"),
    [
        ("table=orders", "", 401),
        ("table=orders", "none", 403),
        ("table=hidden", "7", 404),
        ("table=orders&columns=secret", "7", 400),
        ("table=orders&filter=secret=eq.canary", "7", 400),
        ("table=orders&filter=owner_id=eq.8", "7", 400),
        ("table=orders&or=(id.eq.x)", "7", 400),
    ],
)
def test_who_may_not_gets_no_document(site: Site, query: str, user: str, status: int) -> None:
    answer = site.ask(f"/pgevents/snapshot?{query}", X_User=user)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.headers["cache-control"] == "no-store"


def test_several_tables_have_a_filter_each(site: Site) -> None:
    query = "table=orders&table=" + quote('"Odd %% Table"') + "&filter=orders.id=lt.3&snapshot=1"
    stream = site.stream(query, X_User="8")
    rows: dict[str, Any] = {}
    for frame in stream:
        if frame.name == "ready":
            break
        rows[frame.data["table"]] = [row["pk"] for row in frame.data["rows"]]
    assert rows == {"orders": [{"id": 1}], "Odd %% Table": [{"%s": 2}]}


def test_only_a_stored_generated_column_is_compared(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    """Changes do not have the value of a virtual one, which PostgreSQL 18 brought."""
    stored = database.connect().server_version < 180000
    kind, twice, status = ("STORED", 2, 200) if stored else ("VIRTUAL", None, 400)
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) {kind})")
    database.execute("INSERT INTO t VALUES (1)")
    shop = make_shop()
    shop.events.expose("t", columns="*", public=True)
    site = serve(shop.register().start().app)
    assert json.loads(site.ask("/pgevents/snapshot?table=t").body)["rows"][0]["row"] == {"id": 1, "twice": twice}
    assert site.ask("/pgevents/snapshot?table=t&filter=twice=eq.2").status == status


@both
def test_columns_that_are_others_now_are_not_shown(
    site: Site, kind: type[Watcher], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filter was made for a number. Who comes back is judged anew."""
    read = find_table

    def alter_first(execute: Any, table: Any, **options: Any) -> Any:
        monkeypatch.setattr(snapshots, "find_table", read)
        database.execute("ALTER TABLE orders ALTER owner_id TYPE text USING 'canary'")
        return read(execute, table, **options)

    monkeypatch.setattr(snapshots, "find_table", alter_first)
    watcher = kind(site.port, Asked("orders", "7", snapshot=True))
    assert [item.name for item in watcher if item.name in ("snapshot", "ready")] == []
    assert watcher.ended == ("bye schema" if kind is SseWatcher else "closed 1012")
    watcher.close()
    assert b"canary" not in watcher.raw
