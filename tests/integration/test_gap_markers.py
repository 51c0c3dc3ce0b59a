"""A gap that the log itself tells of reaches all who watch the table, whatever they may see, and nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request
from jinja2 import DictLoader

from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.watchers import WATCHERS, Asked, Watcher
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]
# As a trigger does it that is made again, in whatever process.
LOSE = "SELECT pgevents.begin_v1('public', 'orders')"
KINDS = [
    Asked("orders"), Asked("orders", "7"), Asked("orders", filters=("status=eq.nosuch",)),
    Asked("orders", events=("insert",)), Asked("notes", "7"),
    Asked("orders", "7", filters=("total=gt.5", "id=in.(1,2)"), columns=("id",)),
]  # fmt: skip


@pytest.fixture
def shop(make_shop: MakeShop, database: Database) -> Iterator[Shop]:
    shop = make_shop()
    shop.app.jinja_loader = DictLoader({"order.html": '<li id="orders-{{ row.id }}"></li>'})
    with role(database, "web") as web:
        database.execute(
            "CREATE TABLE notes (id int PRIMARY KEY, owner int); ALTER TABLE notes ENABLE ROW LEVEL SECURITY;"
            f"GRANT SELECT ON notes TO {web}; CREATE POLICY none ON notes USING (false)"
        )
        shop.events.expose(shop.Order, authorize=lambda asked: not request.headers.get("X-User") or asked.c.total == 7)
        shop.events.expose("notes", columns=["id"], rls=lambda asked: {"role": web})
        shop.events.expose(shop.Line, public=True)
        shop.events.fragment(shop.Order, template="order.html", target="#orders")
        shop.events.on_change(shop.Order)(shop.hear())
        yield shop.up()


@pytest.mark.parametrize("kind", WATCHERS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("asked", KINDS, ids=str)
def test_it_is_told_whatever_somebody_may_see(
    shop: Shop, serve: Serve, database: Database, kind: type[Watcher], asked: Asked
) -> None:
    site = serve(shop.app)
    watcher, other = kind(site.port, asked), kind(site.port, Asked("lines"))
    before = watcher.until("ready").cursor
    other.until("ready")
    database.execute(LOSE.replace("orders", asked.table))
    gap = watcher.until("gap", "insert", "update", "delete", "truncate")
    assert (gap.name, gap.data["reason"]) == ("gap", "schema")
    watcher.close()
    for snapshot in (False, True):
        again = kind(site.port, asked._replace(since=before, snapshot=snapshot))
        assert again.until("ready").data["resumed"] is True
        assert again.until("gap", "sync").data["reason"] == "schema"
        again.close()
    database.execute("INSERT INTO lines VALUES (1, '2026-01-01', 'a', 1)")
    assert other.until("gap", "insert").name == "insert"
    other.close()


def test_fragments_say_it_too_and_handlers_hear_of_changes_only(shop: Shop, serve: Serve, database: Database) -> None:
    site = serve(shop.app)
    for name in ("html", "turbo"):
        response = site.stream(f"table=orders&format={name}").response
        lines: list[str] = []

        def read(until: str, response: Any = response, lines: list[str] = lines) -> None:
            while not lines or lines[-1] != until:
                lines.append(response.readline().decode().rstrip())

        read("event: ready")
        database.execute(LOSE)
        read("event: gap")
        assert json.loads(response.readline().decode().removeprefix("data: ")) == {"reason": "schema"}
    database.execute("INSERT INTO orders (id) VALUES (7)")
    wait_until(lambda: shop.heard)
    shop.until("insert 7")
