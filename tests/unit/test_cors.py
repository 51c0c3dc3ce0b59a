"""Which pages may ask: a table of what browsers send, and the headers that let a page read."""

from __future__ import annotations

import pytest
from flask import Flask

from pgevents_push.config import Config
from pgevents_push.errors import RequestError
from pgevents_push.transports.cors import Asking, guard, may_ask
from pgevents_push.transports.problem import problem

OWN, LISTED = "https://app.example", "https://other.example:8443"


@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [(OWN, True), (LISTED, True), ("null", False), ("", False), ("http://app.example", False),
     ("https://app.example:444", False), ("https://app.example.evil.example", False), ("https://APP.example", False),
     ("https://sub.app.example", False), ("https://app.example/", False), ("https://evil.example", False),
     ("https://other.example", False), ("https://aapp.example", False), ("app.example", False)],
)  # fmt: skip
def test_an_origin_is_our_own_or_listed_to_the_letter(origin: str, allowed: bool, websocket: bool) -> None:
    # A browser that says "same-origin" of a foreign one is none.
    for site in (None, "same-origin", "cross-site"):
        assert may_ask(Asking(origin, site, websocket=websocket), OWN, (LISTED,)) is allowed


def test_null_is_never_an_origin_even_when_listed() -> None:
    assert not may_ask(Asking("null"), OWN, ("null",))
    assert not may_ask(Asking("null"), "null", ())


@pytest.mark.parametrize(
    ("asking", "allowed"),
    [(Asking(), True), (Asking(site="same-origin"), True), (Asking(site="none"), True),
     (Asking(site="cross-site"), False), (Asking(site="same-site"), False), (Asking(site="nonsense"), False),
     (Asking(site="cross-site", by_hand=True), True), (Asking(with_cookies=True), True),
     (Asking(websocket=True), True), (Asking(websocket=True, with_cookies=True), False),
     (Asking(site="same-origin", websocket=True, with_cookies=True), False)],
)  # fmt: skip
def test_without_an_origin(asking: Asking, allowed: bool) -> None:
    assert may_ask(asking, OWN, (LISTED,)) is allowed


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    guard(app, lambda: Config(allowed_origins=(LISTED,)))
    app.register_error_handler(RequestError, problem)
    app.add_url_rule("/x", "x", lambda: "rows")
    return app


def test_a_listed_page_may_read_with_cookies_and_nobody_else(app: Flask) -> None:
    answer = app.test_client().get("/x", headers={"Origin": LISTED})
    assert answer.headers["Access-Control-Allow-Origin"] == LISTED
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    for headers in ({}, {"Origin": "http://localhost"}):
        answer = app.test_client().get("/x", headers=headers)
        assert answer.status_code == 200
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
        assert answer.headers["Vary"] == "Origin"


def test_a_foreign_page_gets_no_row_and_may_not_read_why(app: Flask) -> None:
    answer = app.test_client().get("/x", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.mimetype) == (403, "application/problem+json")
    assert b"rows" not in answer.data
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]


def test_the_errors_of_a_listed_page_can_be_read(app: Flask) -> None:
    answer = app.test_client().get("/nothing", headers={"Origin": LISTED})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (404, LISTED)


def test_a_preflight(app: Flask) -> None:
    headers = {"Origin": LISTED, "Access-Control-Request-Method": "GET"}
    headers["Access-Control-Request-Headers"] = "authorization,last-event-id"
    answer = app.test_client().options("/x", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,last-event-id"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, OPTIONS"
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert app.test_client().options("/x", headers={**headers, "Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("names", ["a b", "a;b", "\u00e9", "x" * 10 + ",", "a\tb", ",".join("abcdefghijklmnopqrstuvw")])
def test_names_of_headers_that_are_none_are_not_sent_back(app: Flask, names: str) -> None:
    headers = {"Origin": LISTED, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": names}
    answer = app.test_client().options("/x", headers=headers)
    assert "Access-Control-Allow-Headers" not in answer.headers
