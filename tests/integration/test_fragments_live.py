"""Fragments on the wire: rendered once for each change, or once for each caller where they differ."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, request
from jinja2 import DictLoader

from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]
MOST_TRIES = 20
WHOSE = '<li id="orders-{{ row.id }}">{{ row.status }} for {{ identity }}, {{ count() }}</li>'


def stream(site: Site, user: str, query: str) -> Iterator[str]:
    """Open one as a user; return its lines."""
    response = site.stream(f"table=orders&{query}", X_User=user).response
    assert response.status == 200
    return (line.decode().rstrip() for line in iter(response.readline, b""))


def first_element(lines: Iterator[str]) -> str:
    return next(line for line in lines if "<li" in line)


@pytest.mark.parametrize(("per_identity", "renderings"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("markup", ["html", "turbo"])
def test_each_caller_gets_his_own_where_that_was_asked_for(
    make_shop: MakeShop,
    serve: Serve,
    database: Database,
    markup: str,
    per_identity: bool,
    renderings: int,
) -> None:
    shop, numbers = make_shop(), itertools.count(1)
    shop.app.jinja_loader = DictLoader({"order.html": WHOSE})
    shop.app.context_processor(lambda: {"count": lambda: next(numbers)})
    shop.events.identify(lambda: request.headers.get("X-User"))
    shop.events.expose(shop.Order, public=True)
    shop.events.fragment(shop.Order, template="order.html", target="#orders", per_identity=per_identity)
    site = serve(shop.up().app)
    opened = [stream(site, user, f"format={markup}") for user in ("ann", "bob", "ann")]
    assert all("event: ready" in lines for lines in opened)
    # A stream that has just begun may still be in what it missed, which it gets for itself: until all are live.
    for number in range(MOST_TRIES):
        before = next(numbers)
        database.execute(f"INSERT INTO orders VALUES ({number}, 'open')")
        shown = [first_element(lines) for lines in opened]
        for user, text in zip(("ann", "bob", "ann"), shown, strict=True):
            assert f"open for {user if per_identity else None}," in text
        if (made := next(numbers) - before - 1) == renderings:
            break
    assert made == renderings
    assert shown[0] == shown[2]


def test_rows_of_a_snapshot_too(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    shop = make_shop()
    shop.app.jinja_loader = DictLoader({"order.html": WHOSE.replace(", {{ count() }}", "")})
    shop.events.identify(lambda: request.headers.get("X-User"))
    shop.events.expose(shop.Order, public=True)
    shop.events.fragment(shop.Order, template="order.html", target="#orders", per_identity=True)
    site = serve(shop.up().app)
    database.execute("INSERT INTO orders VALUES (1, 'open')")
    assert "open for ann" in first_element(stream(site, "ann", "format=html&snapshot=1"))
