"""`/pgevents/metrics`: closed by default, and true when it is open."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest
from flask import Flask, abort

from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.web import Site


def measures(site: Site) -> dict[str, float]:
    """Each sample by its name and labels, the process left out."""
    answer = site.ask("/pgevents/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    pairs = [line.rsplit(" ", 1) for line in lines]
    assert all('pid="' in name for name, _ in pairs)
    found = {re.sub(r'pid="\d+",?', "", name).replace("{}", ""): float(value) for name, value in pairs}
    assert len(found) == len(lines), "a sample comes twice"
    return found


def test_closed_by_default(shop: Shop, serve: Callable[[Flask], Site]) -> None:
    site = serve(shop.up().app)
    closed, nothing = site.ask("/pgevents/metrics"), site.ask("/pgevents/nosuch")
    assert (closed.status, closed.body) == (404, nothing.body)


@pytest.fixture
def site(make_shop: MakeShop, serve: Callable[[Flask], Site]) -> Site:
    shop = make_shop(PGEVENTS_METRICS=True, PGEVENTS_MAX_CONNECTIONS_PER_ADDRESS=2)
    shop.events.expose(shop.Order, public=True)
    shop.events.expose(shop.Ticket, authorize=lambda asked: abort(403))
    shop.events.on_insert(shop.Order)(shop.hear())
    return serve(shop.up().app)


def test_it_counts_what_happened(site: Site) -> None:
    before = measures(site)
    assert before['pgevents_listener_status{status="listening"}'] == 1
    assert before["pgevents_tables"] == before["pgevents_captured_tables"] == 2
    assert before['pgevents_connections{kind="sse"}'] == before["pgevents_changes_total"] == 0
    streams = [site.stream("table=orders") for _ in range(2)]
    for stream in streams:
        stream.next("ready")
    assert site.ask("/pgevents/stream?table=orders").status == 429
    streams[0].close()
    wait_until(lambda: measures(site)['pgevents_connections{kind="sse"}'] == 1)
    assert site.ask("/pgevents/stream?table=Tickets").status == 403
    after = measures(site)
    assert after['pgevents_refused_total{why="address"}'] == 1
    assert after["pgevents_denied_total"] == 1
    assert 0 <= after["pgevents_seconds_since_read"] < 5


def test_a_document_of_rows_is_a_connection_while_it_is_on_its_way(site: Site, database: Database) -> None:
    database.execute("INSERT INTO orders SELECT n, repeat('x', 900000) FROM generate_series(1, 40) AS n")
    with socket.create_connection(("127.0.0.1", site.port), 10) as client:
        client.sendall(b"GET /pgevents/snapshot?table=orders HTTP/1.0\r\n\r\n")
        assert client.recv(100)
        assert measures(site)['pgevents_connections{kind="snapshot"}'] == 1
    wait_until(lambda: measures(site)['pgevents_connections{kind="snapshot"}'] == 0)


def test_deliveries_and_handlers(make_shop: MakeShop, serve: Callable[[Flask], Site]) -> None:
    shop = make_shop(PGEVENTS_METRICS=True)
    shop.events.expose(shop.Order, public=True)
    shop.events.on_insert(shop.Order)(shop.hear())
    site = serve(shop.up().app)
    stream = site.stream("table=orders")
    stream.next("ready")
    shop.database.execute("INSERT INTO orders (id) SELECT generate_series(1, 3)")
    stream.changes(3)
    shop.until("insert 1", "insert 2", "insert 3")
    wait_until(lambda: any("handler_events" in name and value == 3 for name, value in measures(site).items()))
    found = measures(site)
    assert (found["pgevents_changes_total"], found["pgevents_deliveries_total"]) == (3, 3)
    [(name, value)] = [(name, value) for name, value in found.items() if "handler_events" in name]
    assert ("Shop.hear" in name, 'what="handled"' in name, value) == (True, True, 3)
