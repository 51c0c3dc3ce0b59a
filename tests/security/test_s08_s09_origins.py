"""S8, S9: a page of another origin reads nothing with the cookies of whoever visits it, by whatever way it asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, request, session
from playwright.sync_api import Page, sync_playwright
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.browser.chromium import DEADLINE_SECONDS, launch
from tests.fixtures.house import House
from tests.fixtures.watch import canary
from tests.fixtures.web import Site
from tests.fixtures.ws_client import StrictClient

LISTED = "https://friend.example"


@pytest.fixture
def site(house: House) -> Site:
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open(PGEVENTS_ALLOWED_ORIGINS=[LISTED], PGEVENTS_METRICS=True)
    # Inside of the proxy that watches: as in front of a site, X-Forwarded-* say what the outer address is.
    house.apps[0].wsgi_app = ProxyFix(house.apps[0].wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    return site


# What a browser or a client sends, and whether it may open a stream, and a WebSocket.
Headers = dict[str, str]
MATRIX: list[tuple[str, Headers, bool, bool]] = [
    ("a client that is no browser", {}, True, True),
    ("one with a cookie", {"Cookie": "session=x"}, True, False),
    ("the own page", {"Origin": "{own}", "Cookie": "session=x"}, True, True),
    ("the own page, which sends no origin with GET", {"Sec-Fetch-Site": "same-origin", "Cookie": "a=b"}, True, False),
    ("a listed page", {"Origin": LISTED, "Sec-Fetch-Site": "cross-site", "Cookie": "a=b"}, True, True),
    ("evil", {"Origin": "https://evil.example"}, False, False),
    ("evil without cookies", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, False, False),
    ("evil with our name as its beginning", {"Origin": "{own}.evil.example"}, False, False),
    ("a listed name as its beginning", {"Origin": f"{LISTED}.evil.example"}, False, False),
    ("a listed name as its end", {"Origin": "https://evil-friend.example"}, False, False),
    ("a part of our name", {"Origin": "http://127.0.0"}, False, False),
    ("another port", {"Origin": "http://127.0.0.1:1"}, False, False),
    ("no port", {"Origin": "http://127.0.0.1"}, False, False),
    ("another scheme", {"Origin": "https://{host}"}, False, False),
    ("a listed page over plain HTTP", {"Origin": "http://friend.example"}, False, False),
    ("a sandboxed frame", {"Origin": "null"}, False, False),
    ("nothing", {"Origin": ""}, False, False),
    ("capitals", {"Origin": "HTTP://{host}"}, False, False),
    ("a slash", {"Origin": "{own}/"}, False, False),
    ("two origins", {"Origin": f"{LISTED}, https://evil.example"}, False, False),
    ("a script tag of another site", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, False, False),
    ("an image of a sibling", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, False, False),
    ("a link that the user clicked", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
                                      "Sec-Fetch-Dest": "document"}, True, True),
    ("a frame of another site", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate",
                                 "Sec-Fetch-Dest": "iframe"}, False, False),
    ("the outer page behind a proxy", {"Origin": "https://shop.example", "X-Forwarded-Proto": "https",
                                       "X-Forwarded-Host": "shop.example"}, True, True),
    ("the inner name behind a proxy", {"Origin": "{own}", "X-Forwarded-Proto": "https",
                                       "X-Forwarded-Host": "shop.example"}, False, False),
    ("evil behind a proxy", {"Origin": "https://evil.example", "X-Forwarded-Proto": "https",
                             "X-Forwarded-Host": "shop.example"}, False, False),
]  # fmt: skip


@pytest.mark.parametrize(("who", "headers", "stream", "socket"), MATRIX, ids=[row[0] for row in MATRIX])
def test_s08_origin_matrix(
    site: Site,
    house: House,
    who: str,
    headers: Headers,
    stream: bool,
    socket: bool,
    connect: Callable[..., StrictClient],
) -> None:
    host = f"127.0.0.1:{site.port}"
    sent = {name: value.format(own=f"http://{host}", host=host) for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    assert connect(site, headers=lines).status == (101 if socket else 403)
    for path in ("stream?table=docs", "snapshot?table=docs", "health", "metrics"):
        answer = site.ask(f"/pgevents/{path}", "HEAD", **sent)
        assert answer.status == (200 if stream else 403), path
        echoed = answer.headers.get("access-control-allow-origin")
        assert echoed == (LISTED if sent.get("Origin") == LISTED else None)
        assert "access-control-allow-credentials" not in answer.headers or echoed
        assert answer.headers["vary"] == "Origin"
    assert site.ask("/pgevents/static/pgevents.js", **sent).status == 200


def test_s09_the_errors_of_listed_pages_can_be_read_and_no_others(site: Site) -> None:
    for query, status in (("table=nosuch", 404), ("table=docs&columns=x", 400), ("", 400)):
        for path in (f"/pgevents/stream?{query}", f"/pgevents/snapshot?{query}"):
            answer = site.ask(path, Origin=LISTED)
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, LISTED)
            assert site.ask(path, Origin="https://evil.example").status == 403
    answer = site.ask("/pgevents/snapshot?table=docs", Origin=LISTED)  # our role may not SELECT from it
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (503, LISTED)
    assert answer.headers["content-type"] == "application/problem+json"


def test_s09_a_preflight_lets_listed_pages_send_a_token(site: Site, house: House) -> None:
    wanted = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
    for path in ("/pgevents/stream", "/pgevents/snapshot"):
        answer = site.ask(path, "OPTIONS", Origin=LISTED, **wanted)
        assert (answer.status, answer.headers["access-control-allow-headers"]) == (200, "authorization")
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert site.ask(path, "OPTIONS", Origin="https://evil.example", **wanted).status == 403
    assert house.inside() == 0


# --- A real browser


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.set_default_timeout(DEADLINE_SECONDS * 1000)
        yield page
        browser.close()


OPEN_A_STREAM = """url => new Promise(done => {
    const source = new EventSource(url, {withCredentials: true})
    source.addEventListener("ready", () => { done("ready"); source.close() })
    source.onerror = () => { done("error " + source.readyState); source.close() }
})"""
OPEN_A_SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url)
    socket.onopen = () => socket.send('{"type":"subscribe","ref":"1","table":"docs"}')
    socket.onmessage = message => { done(JSON.parse(message.data).type); socket.close() }
    socket.onclose = event => done("closed " + event.code)
})"""
FETCH = """url => fetch(url, {credentials: "include", headers: {Authorization: "x"}})
    .then(answer => { answer.body.cancel(); return String(answer.status) }, error => error.name)"""


@contextmanager
def another_origin() -> Iterator[Site]:
    """A page on another port of the same host: the same cookies, another origin."""
    app = Flask("evil")
    app.add_url_rule("/", "page", lambda: "<!doctype html><title>another origin</title>")
    site = Site(app)
    try:
        yield site
    finally:
        site.close()


@pytest.mark.parametrize("listed", [False, True])
def test_s09_chromium_obeys(house: House, tab: Page, listed: bool) -> None:
    """The user is signed in at the house by a cookie, and visits a page of another origin."""
    house.events.expose("docs", columns=["id"], authorize=lambda asked: session.get("user") == "ann")
    with another_origin() as other:
        page = f"http://127.0.0.1:{other.port}"
        site = house.open(PGEVENTS_ALLOWED_ORIGINS=[page] if listed else [])
        house.apps[0].add_url_rule("/in", "in", sign_in)
        own = f"http://127.0.0.1:{site.port}"
        house.sql("INSERT INTO docs VALUES (1, 'a', %s)", canary("column"))
        tab.goto(f"{own}/in")
        assert asked_from(tab, own) == ["ready", "ready", "200"]
        tab.goto(page)
        expected = ["ready", "ready", "200"] if listed else ["error 2", "closed 1006", "TypeError"]
        assert asked_from(tab, own) == expected
        assert house.runtime().hub.counts["deliveries"] == 0


def asked_from(tab: Page, own: str) -> list[Any]:
    stream, socket = f"{own}/pgevents/stream?table=docs", f"{own.replace('http', 'ws')}/pgevents/ws"
    return [tab.evaluate(OPEN_A_STREAM, stream), tab.evaluate(OPEN_A_SOCKET, socket), tab.evaluate(FETCH, stream)]


def sign_in() -> str:
    session["user"] = request.args.get("user", "ann")
    return "<!doctype html><title>in</title>"
