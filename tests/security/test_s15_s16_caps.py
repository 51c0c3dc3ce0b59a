"""S15, S16: nobody takes more than a share, who is refused costs nothing, and everything is given back."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.servers import ServerName, Serving
from tests.fixtures.web import Site, Stream
from tests.fixtures.ws_client import StrictClient


def test_s15_exactly_as_many_as_allowed_and_the_rest_is_told_when_to_come_back(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    asked = list[str]()

    def may_see(subscription: object) -> bool:
        asked.append("authorize")
        return True

    house.events.identify(lambda: asked.append("identify"))
    house.events.expose("docs", columns=["id"], authorize=may_see)
    site = house.open(PGEVENTS_MAX_CONNECTIONS=10)
    statuses, kept = list[int](), list[Stream]()

    def try_it() -> None:
        stream = site.stream("table=docs")
        statuses.append(stream.response.status)
        kept.append(stream)

    threads = [threading.Thread(target=try_it) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 10 + [503] * 30
    assert len(asked) == 20, "somebody who was refused was asked for a name or a right"
    answer = site.ask("/pgevents/stream?table=docs")
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    refused = connect(site)
    assert refused.status == 503
    assert "Retry-After" in refused.head
    assert site.ask("/pgevents/health").status == 200
    for stream in kept:
        stream.close()
    wait_until(lambda: house.inside() == 0)
    site.stream("table=docs").next("ready")


@pytest.mark.parametrize("what", ["ADDRESS", "IDENTITY"])
def test_s15_one_caller_has_a_share(house: House, what: str, connect: Callable[..., StrictClient]) -> None:
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open(**{f"PGEVENTS_MAX_CONNECTIONS_PER_{what}": 3})
    kept = [site.stream("table=docs", X_User="ann") for _ in range(2)]
    assert connect(site, headers="X-User: ann\r\n").status == 101
    assert [stream.next("ready").name for stream in kept] == ["ready", "ready"]
    answer = site.ask("/pgevents/stream?table=docs", X_User="ann")
    assert (answer.status, json.loads(answer.body)["title"]) == (429, "Too many requests")
    assert int(answer.headers["retry-after"]) >= 1
    assert connect(site, headers="X-User: ann\r\n").status == 429
    other = site.ask("/pgevents/stream?table=docs", "HEAD", X_User="bob").status
    assert other == (429 if what == "ADDRESS" else 200)


def test_s15_the_address_is_the_one_that_the_apps_proxy_fix_says(house: House) -> None:
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open(PGEVENTS_MAX_CONNECTIONS_PER_ADDRESS=1)
    forwarded = {"X_Forwarded_For": "203.0.113.7"}
    first = site.stream("table=docs", **forwarded)
    first.next("ready")
    # Without ProxyFix nobody believes the header.
    assert site.ask("/pgevents/stream?table=docs", X_Forwarded_For="203.0.113.8").status == 429
    first.close()
    wait_until(lambda: house.inside() == 0)
    house.apps[0].wsgi_app = ProxyFix(house.apps[0].wsgi_app, x_for=1)  # type: ignore[method-assign]
    first = site.stream("table=docs", **forwarded)
    first.next("ready")
    assert site.ask("/pgevents/stream?table=docs", **forwarded).status == 429
    assert site.ask("/pgevents/stream?table=docs", "HEAD", X_Forwarded_For="203.0.113.8").status == 200
    # What the client itself put before it does not count.
    assert site.ask("/pgevents/stream?table=docs", X_Forwarded_For="198.51.100.1, 203.0.113.7").status == 429


def test_s15_a_refusal_of_any_kind_gives_the_place_back(house: House, connect: Callable[..., StrictClient]) -> None:
    house.events.expose("docs", columns=["id"], authorize=lambda asked: False)
    site = house.open()
    for query in ("", "table=docs", "table=nosuch", "table=docs&columns=x", "table=docs&ticket=x", "x" * 9000):
        assert site.ask(f"/pgevents/stream?{query}").status in (400, 401, 403, 404)
    assert site.ask("/pgevents/stream?table=docs", Accept="text/html").status == 406
    assert connect(site, headers="Upgrade: nonsense\r\n").status in (400, 426, 101)
    wait_until(lambda: house.inside() == 0)


# --- Leaks


def inside(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/inside")
        answer: dict[str, Any] = json.load(connection.getresponse())
        return answer
    finally:
        connection.close()


def sse(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.sendall(b"GET /pgevents/stream?table=docs HTTP/1.1\r\nHost: x\r\nX-User: ann\r\n\r\n")
    return client


def until_ready(client: socket.socket) -> None:
    seen = b""
    while b"event: ready" not in seen:
        data = client.recv(65536)
        assert data, seen
        seen += data


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def one_of_each(port: int, number: int) -> None:
    """Come in one way and leave another way."""
    way = number % 6
    if way == 0:
        client = sse(port)
        until_ready(client)
        client.close()
    elif way == 1:
        client = sse(port)
        until_ready(client)
        reset(client)
    elif way == 2:
        reset(sse(port))  # before an answer
    elif way == 3:
        with StrictClient(port, headers="X-User: ann\r\n") as ws:
            ws.subscribe(table="docs")
    elif way == 4:
        ws = StrictClient(port, headers="X-User: ann\r\n")
        ws.subscribe(table="docs")
        ws.reset()
    else:
        StrictClient(port, headers="X-User: ann\r\n").reset()  # right behind the handshake


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gevent", "gthread"])
def test_s15_nothing_is_left_of_a_thousand_connections_however_they_end(
    serve_doors: Callable[..., Serving], name: ServerName
) -> None:
    port = serve_doors(name, workers=1).ports[0]

    def cycles(count: int) -> dict[str, Any]:
        for number in range(count):
            one_of_each(port, number)
        return (
            wait_until(lambda: (now := inside(port)) and not now["places"] and not now["mailboxes"] and now, 30) or {}
        )

    warm = cycles(300)
    after = cycles(1000)
    assert (after["places"], after["mailboxes"]) == (0, 0)
    assert after["files"] <= warm["files"] + 4
    # A pool of threads grows with how many are busy at the same time; one left behind by each would be 166 for a way.
    assert after["threads"] <= warm["threads"] + (4 if name == "gevent" else 40)
    assert after["rss"] < warm["rss"] + 6_000_000


@pytest.mark.slow
def test_s15_who_is_refused_costs_nothing(serve_doors: Callable[..., Serving]) -> None:
    """A hundred callers too many, again and again: no memory, no file, and the one inside notices nothing."""
    port = serve_doors("gevent", workers=1, max_connections=20).ports[0]
    with ExitStack() as stack:
        for _ in range(20):
            client = sse(port)
            stack.callback(client.close)
            until_ready(client)

        def refused() -> None:
            with sse(port) as client:
                assert client.recv(65536).startswith(b"HTTP/1.1 503 ")

        for _ in range(200):
            refused()
        before = inside(port)
        for _ in range(1000):
            refused()
        after = inside(port)
        assert (after["places"], after["mailboxes"]) == (20, 20)
        assert after["files"] <= before["files"] + 2
        assert (after["rss"] - before["rss"]) / 1000 < 5000, "bytes for each refusal"


def test_s15_a_worker_takes_no_more_than_it_may_open_files(serve_doors: Callable[..., Serving]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        port = serve_doors("gevent", workers=1).ports[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        for _ in range(100 - 64):
            client = sse(port)
            stack.callback(client.close)
            until_ready(client)
        with sse(port) as client:
            assert client.recv(65536).startswith(b"HTTP/1.1 503 ")
        assert inside(port)["places"] == 36


# --- S16


def test_s16_what_one_request_may_ask_for_is_bounded(house: House, connect: Callable[..., StrictClient]) -> None:
    for n in range(40):
        house.sql(f"CREATE TABLE t{n} (id int PRIMARY KEY)")
        house.events.expose(f"public.t{n}", columns=["id"], public=True)
    site = house.open()
    answer = site.ask("/pgevents/stream?" + "&".join(f"table=t{n}" for n in range(33)))
    assert (answer.status, b"at most 32 are allowed" in answer.body) == (400, True)
    answer = site.ask("/pgevents/stream?table=t0&columns=" + "x" * 9000)
    assert (answer.status, b"at most 8192 are allowed" in answer.body) == (400, True)
    ws = connect(site)
    assert [ws.subscribe(str(n), table=f"t{n}")["type"] for n in range(32)] == ["ready"] * 32
    assert ws.subscribe("33", table="t33")["code"] == 429


def test_s16_a_burst_of_subscriptions_is_cut_off(site_with_docs: Site, connect: Callable[..., StrictClient]) -> None:
    ws = connect(site_with_docs)
    began = time.monotonic()
    for n in range(400):
        try:
            ws.send({"type": "subscribe", "ref": str(n), "table": "nosuch"})
        except OSError:
            break
    assert ws.close_code() == 1008
    assert time.monotonic() - began < 20


@pytest.fixture
def site_with_docs(house: House) -> Site:
    house.events.expose("docs", columns=["id"], public=True)
    return house.open()
