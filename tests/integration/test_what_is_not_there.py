"""What a developer mistypes: a column that is not in the database. Nobody is left without a word, over any way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websocket import WebSocket, create_connection

from tests.fixtures.joined import Serve
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop
from tests.fixtures.web import PATIENCE_SECONDS, Site

Subscribe = Callable[..., dict[str, Any]]


@pytest.fixture
def site(make_shop: MakeShop, serve: Serve, database: Database) -> Site:
    """All of `notes` is exposed."""
    shop = make_shop()
    database.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, n int)")
    shop.events.expose("notes", columns="*", public=True)
    return serve(shop.register().start().app)


@pytest.fixture
def subscribe(site: Site) -> Iterator[Subscribe]:
    """Subscribe on one socket; return the answer."""
    socket: WebSocket = create_connection(f"ws://127.0.0.1:{site.port}/pgevents/ws", timeout=PATIENCE_SECONDS)

    def ask(ref: str, **fields: Any) -> dict[str, Any]:
        socket.send(json.dumps({"type": "subscribe", "ref": ref, **fields}))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer: dict[str, Any] = json.loads(socket.recv())
            if answer.get("ref") == ref:
                return answer
        raise AssertionError("no answer")

    yield ask
    socket.close()


def test_a_mistyped_column_is_named(site: Site, subscribe: Subscribe) -> None:
    text = "columns: 'titel' is not exposed."
    for path in ("stream", "snapshot"):
        answer = site.ask(f"/pgevents/{path}?table=notes&columns=id,titel")
        assert (answer.status, json.loads(answer.body)["detail"]) == (400, text)
    refused = subscribe("a", table="notes", columns=["titel"])
    assert (refused["type"], refused["code"], refused["message"]) == ("error", 400, text)
    assert subscribe("b", table="notes", columns=["title", "n"])["type"] == "ready"
    assert site.stream("table=notes&columns=title,n").next().name == "ready"


def test_a_column_that_was_just_added_can_be_asked_for(site: Site, database: Database) -> None:
    """Nobody has written a row since; that is what tells of other columns."""
    assert site.ask("/pgevents/snapshot?table=notes&columns=later").status == 400
    database.execute("ALTER TABLE notes ADD later text")
    wait_until(lambda: site.ask("/pgevents/snapshot?table=notes&columns=later").status == 200)
    stream = site.stream("table=notes&columns=later")
    assert stream.next().name == "ready"
    database.execute("INSERT INTO notes (id, later) VALUES (1, 'yes')")
    assert stream.changes(1)[0].data["row"] == {"later": "yes"}
