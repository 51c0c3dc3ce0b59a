"""The inspector: nothing to see for who may not look, everything for who may."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.debug import get_pin_and_cookie_name

from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]
PATHS = ("", "/state", "/stream")
LOCAL = "http://localhost:5000"


@pytest.fixture(autouse=True)
def with_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WERKZEUG_DEBUG_PIN", "123-456-789")


def inspected(make_shop: MakeShop, **settings: object) -> Shop:
    shop = make_shop(PGEVENTS_INSPECTOR=True, **settings)
    shop.events.expose(shop.Order, columns=["id", "status"], public=True)

    @shop.events.on_change(shop.Ticket)
    def ticket_changed(event: object) -> None:
        raise ValueError("no such seat")

    return shop


def enter(client: FlaskClient, pin: str = "123456789") -> dict[str, bool]:
    found: dict[str, bool] = client.post("/pgevents/inspector/pin", data={"pin": pin}, base_url=LOCAL).json or {}
    return found


@pytest.mark.parametrize("setting", [None, False])
@pytest.mark.parametrize("debug", [False, True])
def test_it_is_there_in_debug_mode_or_when_asked_for(make_shop: MakeShop, setting: bool | None, debug: bool) -> None:
    shop = make_shop(PGEVENTS_INSPECTOR=setting).register()
    shop.app.debug = debug
    there = debug and setting is None
    client = shop.app.test_client()
    statuses = {client.get(f"/pgevents/inspector{path}", base_url=LOCAL).status_code for path in PATHS}
    assert statuses == ({200, 401} if there else {404})
    assert client.post("/pgevents/inspector/pin", base_url=LOCAL).status_code == (200 if there else 404)


@pytest.mark.parametrize("host", ["shop.example", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_another_host_name_is_an_unknown_url(make_shop: MakeShop, host: str) -> None:
    """Or a page of somebody else that points its own name at this machine could read along."""
    client = inspected(make_shop).register().app.test_client()
    for path in PATHS:
        assert client.get(f"/pgevents/inspector{path}", base_url=f"http://{host}").status_code == 404


def test_the_pin_opens_and_nothing_else_does(make_shop: MakeShop, caplog: pytest.LogCaptureFixture) -> None:
    app = inspected(make_shop).register().app
    client = app.test_client()
    with caplog.at_level(logging.WARNING):
        assert client.get("/pgevents/inspector", base_url=LOCAL).status_code == 200
        client.get("/pgevents/inspector", base_url=LOCAL)
    assert caplog.text.count(str(get_pin_and_cookie_name(app)[0])) == 1
    for forged in ("", "|", "99999999999|", "99999999999|0123456789ab", "x|y", "٣|y"):
        client.set_cookie("pgevents_inspector", forged, domain="localhost", path="/pgevents/inspector")
        assert client.get("/pgevents/inspector/state", base_url=LOCAL).status_code == 401
    assert enter(client, "000-000-000") == {"auth": False, "exhausted": False}
    admitted = client.post("/pgevents/inspector/pin", data={"pin": "123456789"}, base_url=LOCAL)
    assert admitted.json == {"auth": True, "exhausted": False}
    cookie = admitted.headers["Set-Cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/pgevents/inspector")), cookie


def test_guessing_ends(make_shop: MakeShop) -> None:
    client = inspected(make_shop).register().app.test_client()
    answers = [enter(client, str(number)) for number in range(10)]
    assert [answer["exhausted"] for answer in answers] == [False] * 9 + [True]
    assert enter(client) == {"auth": False, "exhausted": True}


def test_the_page_loads_only_its_own_files(make_shop: MakeShop) -> None:
    client = inspected(make_shop).register().app.test_client()
    page = client.get("/pgevents/inspector", base_url=LOCAL)
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert not re.search(r"\sstyle=|\son\w+=|<script>|https?://", page.text)
    for path in re.findall(r'(?:href|src)="(static/[^"]+)"', page.text):
        with client.get(f"/pgevents/{path}", base_url=LOCAL) as file:
            assert file.status_code == 200


def test_it_shows_tables_streams_handlers_and_every_column(
    make_shop: MakeShop, serve: Serve, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WERKZEUG_DEBUG_PIN", "off")
    shop = inspected(make_shop).up()
    site = serve(shop.app)
    customer, stream = site.stream("table=orders"), site.stream_at("/pgevents/inspector/stream")
    assert [customer.next().name, stream.next().name] == ["ready", "ready"]
    database.execute("""SET pgevents.actor = '{"user": 7}'""")
    database.execute("INSERT INTO orders VALUES (1, 'open', 5)")
    database.execute("""INSERT INTO "Tickets" VALUES ('6b1d1fd0-5d7a-4b0c-a5b0-7b4f5b6f3f11', 'front row')""")
    order, ticket = stream.next(), stream.next()
    assert (order.data["row"], order.data["actor"]) == ({"id": 1, "status": "open", "total": 5}, {"user": 7})
    assert ticket.data["row"]["title"] == "front row"
    wait_until(lambda: any(tally.last_error for tally in shop.runtime.tallies()))

    state = json.loads(site.ask("/pgevents/inspector/state").body)
    orders, tickets = state["tables"][1], state["tables"][0]
    assert (orders["name"], orders["trigger"], orders["columns"]) == ("orders", "current", ["id", "status"])
    assert (orders["exposed"], orders["public"], orders["streams"]) == (True, True, 2)
    assert (tickets["name"], tickets["exposed"], tickets["handlers"]) == ("Tickets", False, 1)
    assert state["listener"]["status"] == "listening"
    assert sorted(len(found["views"]) for found in state["streams"]) == [1, 2]
    [handler] = state["handlers"]
    assert handler["failed"] == 1
    assert handler["last_error"] == "ValueError: no such seat"
    assert "front row" not in json.dumps(state)


def test_it_says_why_the_triggers_are_unknown(make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WERKZEUG_DEBUG_PIN", "off")
    settings = {"PGEVENTS_DATABASE_URL": "postgresql+psycopg2://nobody:s3cret@127.0.0.1:9/none"}
    shop = inspected(make_shop, **settings).register()
    state = shop.app.test_client().get("/pgevents/inspector/state", base_url=LOCAL).json
    assert state is not None
    assert {table["trigger"] for table in state["tables"]} == {"unknown"}
    assert "refused" in state["listener"]["error"]
    assert "s3cret" not in json.dumps(state)
