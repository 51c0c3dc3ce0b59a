"""Streams give back what they took, however they end; and only clients that are slow count as slow."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from flask import Flask, Response, request

from pgevents_push.transports import peer
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.programs import SCHEMA
from tests.fixtures.servers import serving
from tests.fixtures.shop import Shop
from tests.fixtures.web import Site

SECONDS = 30.0


@pytest.fixture
def site(shop: Shop, serve: Callable[[Flask], Site]) -> Site:
    @shop.app.after_request
    def replace(response: Response) -> Response:
        return Response("another one") if "_replace" in request.args else response

    shop.events.expose(shop.Order, public=True)
    shop.up()
    return serve(shop.app)


def test_a_response_that_the_app_replaces_leaves_nothing(site: Site, shop: Shop) -> None:
    for _ in range(3):
        assert site.ask("/pgevents/stream?table=orders&_replace=1").body == b"another one"
    assert shop.runtime.hub.connections == 0
    site.stream("table=orders").next("ready")
    assert shop.runtime.hub.connections == 1


@pytest.mark.slow
def test_a_client_that_never_reads_frees_its_thread(
    site: Site, shop: Shop, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "STUCK_SECONDS", 1.0)
    other = site.stream("table=orders&events=delete")
    other.next("ready")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", site.port))
        client.sendall(b"GET /pgevents/stream?table=orders&events=insert HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: shop.runtime.hub.connections == 2, SECONDS)
        # Far more than the kernel's buffers hold: the server's send blocks.
        database.execute("INSERT INTO orders SELECT n, repeat('x', 40000) FROM generate_series(1, 400) AS n")
        wait_until(lambda: shop.runtime.hub.connections == 1, SECONDS)
    database.execute("DELETE FROM orders WHERE id = 1")
    assert other.next("delete").data["pk"] == {"id": 1}


def test_a_transaction_larger_than_a_mailbox_reaches_a_client_that_reads(database: Database) -> None:
    """Under gevent no courier runs while the listener hands a batch on."""
    rows, received, ready = 800, bytearray(), threading.Event()
    database.execute(SCHEMA)
    with serving("gevent", database.url, workers=1) as server, socket.socket() as client:
        client.connect(("127.0.0.1", server.ports[0]))
        client.settimeout(SECONDS)
        client.sendall(b"GET /pgevents/stream?table=orders HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def read() -> None:
            while received.count(b"event: insert") < rows and b"event: bye" not in received:
                received.extend(client.recv(1 << 20))
                if b"event: ready" in received:
                    ready.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert ready.wait(SECONDS)
        database.execute(f"INSERT INTO orders SELECT n, repeat('x', 8000), 1 FROM generate_series(1, {rows}) AS n")
        reader.join(SECONDS)
    assert b"event: bye" not in received
    assert received.count(b"event: insert") == rows
