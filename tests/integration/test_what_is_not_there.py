"""What a developer mistypes or forgets: a column, or a whole table, that is not in the database. Nobody is left without
a word, over any way."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websocket import WebSocket, create_connection

from pgevents_push.transports import snapshot, uncaptured
from tests.fixtures.joined import Serve
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop
from tests.fixtures.web import PATIENCE_SECONDS, Site

Subscribe = Callable[..., dict[str, Any]]


@pytest.fixture
def site(make_shop: MakeShop, serve: Serve, database: Database) -> Site:
    """All of `notes` and of `things` is exposed; nobody has made the latter."""
    shop = make_shop()
    database.execute("CREATE TABLE notes (id int PRIMARY KEY, title text, n int)")
    for table in ("notes", "things"):
        shop.events.expose(table, columns="*", public=True)
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not captured is refused soon."""
    monkeypatch.setattr(uncaptured, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(uncaptured, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(snapshot, "BEGINNING_SECONDS", 0.3)


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


@pytest.mark.usefixtures("impatient")
def test_who_asks_for_a_table_that_is_not_there_is_told_which(
    site: Site, subscribe: Subscribe, caplog: pytest.LogCaptureFixture
) -> None:
    text = "public.things is not captured at the moment; the server's log says why."
    bye = site.stream("table=notes,things").next()
    assert (bye.name, bye.data["reason"], bye.data["detail"]) == ("bye", "uncaptured", text)
    assert bye.data["retry"] > 0
    for _ in range(2):  # the ref is free again
        refused = subscribe("a", table="things")
        assert (refused["type"], refused["code"], refused["message"]) == ("error", 503, text)
    assert subscribe("b", table="notes")["type"] == "ready"
    answer = site.ask("/pgevents/snapshot?table=things")
    assert (answer.status, json.loads(answer.body)["detail"]) == (503, text)
    assert int(answer.headers["retry-after"]) > 0
    logged = [*caplog.get_records("setup"), *caplog.records]
    said = [record for record in logged if "public.things is absent (no such table" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.WARNING]


@pytest.mark.usefixtures("impatient")
def test_who_comes_back_is_ready_when_the_table_is_there(site: Site, subscribe: Subscribe, database: Database) -> None:
    assert site.stream("table=things").next().name == "bye"
    assert subscribe("a", table="things")["type"] == "error"
    database.execute("CREATE TABLE things (id int PRIMARY KEY)")
    wait_until(lambda: site.stream("table=things").next().name == "ready")
    assert subscribe("a", table="things")["type"] == "ready"
