"""`/pgevents/ws` as a client meets it, over real handshakes; the hub is fed by hand, no PostgreSQL."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.patience import wait_until
from tests.fixtures.ws_client import StrictClient
from tests.fixtures.ws_server import SERVERS, ServerName, WsServer, running

HEARTBEAT_SECONDS = 30


@pytest.fixture(scope="module", params=["gthread", "pywsgi", "pywsgi kept"])
def server(request: pytest.FixtureRequest) -> Iterator[WsServer]:
    with running(request.param, max_subscriptions=3, heartbeat_seconds=HEARTBEAT_SECONDS) as started:
        handed = request.param == "pywsgi"
        with StrictClient(started.port):
            started.until(connections=1)
            assert started.left()["handed_over"] == handed
        yield started


@pytest.fixture
def client(server: WsServer) -> Iterator[StrictClient]:
    with StrictClient(server.port) as opened:
        yield opened
    server.until(connections=0, contexts=0)


def test_ready_comes_first_and_tells_from_where(client: StrictClient, server: WsServer) -> None:
    ready = client.subscribe("a")
    assert ready.pop("cursor").startswith("abcd~")
    assert ready == {"type": "ready", "ref": "a", "resumed": False, "tables": ["public.orders"], "heartbeat": 30}
    last = json.loads(server.get("/feed"))["last"]
    change = client.message()
    here = f"abcd~{last + 1}:{last + 1}:"
    assert (change["ref"], change["cursor"], change["type"], change["id"]) == ("a", here, "insert", str(last))
    assert change["pk"] == {"id": last}
    assert client.subscribe("b")["cursor"] == here


def test_a_hidden_column_is_in_no_frame(client: StrictClient, server: WsServer) -> None:
    client.subscribe()
    server.get("/feed")
    _, payload = client.frame()
    assert b"s3cret" not in payload
    assert b"hidden" not in payload


def test_each_subscription_gets_its_own_frames(client: StrictClient, server: WsServer) -> None:
    client.subscribe("all")
    client.subscribe("ids", columns=["id"])
    client.subscribe("deletes", events=["delete"])
    server.get("/feed?table=other")
    server.get("/feed")
    rows = {change["ref"]: set(change["row"]) for change in (client.message(), client.message())}
    assert rows == {"all": {"id", "text"}, "ids": {"id"}}
    assert ask(client, {"type": "ping"}) == {"type": "pong"}


def test_nothing_of_a_subscription_comes_behind_the_pong_after_unsubscribe(
    client: StrictClient, server: WsServer
) -> None:
    client.subscribe("a")
    client.subscribe("b")
    client.send({"type": "unsubscribe", "ref": "a"})
    assert ask(client, {"type": "ping"}) == {"type": "pong"}
    server.get("/feed")
    assert client.message()["ref"] == "b"
    assert client.subscribe("a")["type"] == "ready"  # the ref is free again
    server.get("/feed")
    assert {client.message()["ref"], client.message()["ref"]} == {"a", "b"}


def ask(client: StrictClient, message: dict[str, Any]) -> dict[str, Any]:
    client.send(message)
    return client.message()


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"table": "unknown"}, 404), ({"table": "public.unknown"}, 404), ({"table": 'a"."b'}, 404),
     ({"table": "Orders"}, 404), ({"columns": ["hidden"]}, 400),
     ({"columns": ["none"]}, 400), ({"events": ["upsert"]}, 400),
     ({"limit": 3}, 400)],
)  # fmt: skip
def test_a_refused_subscription_leaves_the_socket_open(client: StrictClient, fields: dict[str, Any], code: int) -> None:
    refused = client.subscribe("x", **fields)
    assert (refused["type"], refused["ref"], refused["code"]) == ("error", "x", code)
    assert client.subscribe("x")["type"] == "ready"


def test_hidden_and_unknown_columns_are_refused_alike(client: StrictClient) -> None:
    hidden, unknown = client.subscribe("x", columns=["hidden"]), client.subscribe("x", columns=["nosuch"])
    assert hidden["message"].replace("hidden", "…") == unknown["message"].replace("nosuch", "…")


def test_a_ref_is_used_once_and_the_number_is_bounded(client: StrictClient) -> None:
    for ref in ("1", "2", "3"):
        assert client.subscribe(ref)["type"] == "ready"
    assert client.subscribe("1")["code"] == 400
    assert client.subscribe("4")["code"] == 429
    assert ask(client, {"type": "unsubscribe", "ref": "4"})["code"] == 404
    client.send({"type": "unsubscribe", "ref": "1"})
    assert client.subscribe("4")["type"] == "ready"


def test_since_is_answered_by_a_gap_and_never_by_silence(client: StrictClient, server: WsServer) -> None:
    ready = client.subscribe("a", since="nonsense")
    assert (ready["type"], ready["resumed"]) == ("ready", False)
    assert client.message() == {"type": "gap", "ref": "a", "cursor": ready["cursor"], "reason": "cursor"}
    server.get("/feed")
    assert client.message()["type"] == "insert"


@pytest.mark.parametrize(
    ("query", "answer"),
    [("?user=ann", "ready"), ("?user=bob", 403), ("", 403), ("?anonymous=1", 401), ("?broken=1&user=ann", 403)],
)
def test_authorize_sees_the_request_and_keeps_no_context(server: WsServer, query: str, answer: str | int) -> None:
    before = server.left()
    with StrictClient(server.port, f"/pgevents/ws{query}") as client:
        got = client.subscribe(table="secret")
        assert (got["type"] if answer == "ready" else got["code"]) == answer
        assert client.subscribe("2")["type"] == "ready"
        left = server.left()
        kept = 1 - left["handed_over"]
        assert left["contexts"] == kept  # flask-sock's own, which has released what it held
        assert left["released"] == before["released"] + kept
        assert left["given_back"] == before["given_back"] + 1  # although the socket is still open


@pytest.mark.parametrize("message", [b"nonsense", b"[]", b'{"type":"subscribe","table":"orders"}', b'{"type":"x"}'])
def test_a_bad_message_is_told_and_closes_with_4400(client: StrictClient, message: bytes) -> None:
    client.send_frame(0x81, message)
    refused = client.message()
    assert (refused["type"], refused["ref"], refused["code"]) == ("error", None, 400)
    assert client.close_code() == 4400


def test_a_binary_message_closes_with_4400(client: StrictClient) -> None:
    client.send_frame(0x82, b'{"type":"ping"}')
    assert client.message()["code"] == 400
    assert client.close_code() == 4400


def test_silence_is_broken_by_a_sync_that_moves_the_cursor() -> None:
    with running("pywsgi", heartbeat_seconds=0.3) as server, StrictClient(server.port) as client:
        began = time.monotonic()
        client.subscribe(table="other")
        assert client.message() == {"type": "sync", "cursor": "abcd~1:1:"}
        assert 0.2 < time.monotonic() - began < 10
        last = json.loads(server.get("/feed?count=3"))["last"]  # of a table that this client does not see
        while (sync := client.message()) == {"type": "sync", "cursor": "abcd~1:1:"}:
            pass
        assert sync == {"type": "sync", "cursor": f"abcd~{last + 1}:{last + 1}:"}


@pytest.mark.parametrize("name", ["gthread", "pywsgi", "pywsgi kept"])
def test_before_the_listener_is_live_nothing_false_is_told(name: ServerName) -> None:
    with running(name, live=False, heartbeat_seconds=0.2) as server, StrictClient(server.port) as client:
        client.send({"type": "subscribe", "ref": "1", "table": "orders"})
        client.send({"type": "subscribe", "ref": "2", "table": "other"})
        client.send({"type": "unsubscribe", "ref": "2"})
        client.send({"type": "ping"})
        assert client.message() == {"type": "pong"}
        assert client.frame() == (9, b"")  # alive, but without a cursor
        server.get("/live")
        assert client.message()["type"] == "ready"
        server.get("/feed?table=other")
        last = json.loads(server.get("/feed"))["last"]
        assert _next_change(client)["id"] == str(last)


def _next_change(client: StrictClient) -> dict[str, Any]:
    message = client.message()
    while message["type"] == "sync":
        message = client.message()
    return message


@pytest.mark.parametrize("name", SERVERS)
def test_shutdown_closes_with_1012_at_once_and_takes_nobody_in(name: ServerName) -> None:
    with (
        running(name, heartbeat_seconds=HEARTBEAT_SECONDS) as server,
        StrictClient(server.port) as client,
        StrictClient(server.port) as second,
    ):
        client.subscribe()
        server.get("/feed?count=5")
        began = time.monotonic()
        server.get("/shutdown")
        for _ in range(5):
            assert client.message()["type"] == "insert"  # what was on its way arrives first
        assert client.close_code() == second.close_code() == 1012
        with StrictClient(server.port) as late:
            assert late.close_code() == 1012
        assert time.monotonic() - began < HEARTBEAT_SECONDS / 3, "told at the next heartbeat"
        server.until(connections=0, readers=0)


@pytest.mark.parametrize("name", ["gevent", "gevent kept"])
def test_a_client_that_is_too_slow_is_closed_with_4408(name: ServerName) -> None:
    with (
        running(name, max_queue_bytes=1_000_000) as server,
        StrictClient(server.port, receive_buffer=4096) as slow,
        StrictClient(server.port) as other,
    ):
        slow.subscribe()
        other.subscribe(table="other")
        server.get("/feed?count=60&size=100000")
        server.get("/feed?table=other")
        assert other.message()["table"] == "other"
        wait_until(lambda: server.left()["overflows"] == 1, 30)
        assert slow.close_code() == 4408


ORIGINS = [
    ("http://127.0.0.1:{port}", 101),
    (None, 101),
    ("https://friend.example", 101),
    ("https://friend.example:444", 403),
    ("http://friend.example", 403),
    ("https://127.0.0.1:{port}", 403),
    ("http://127.0.0.1", 403),
    ("http://localhost:{port}", 403),
    ("http://evil.example", 403),
    ("null", 403),
    ("", 403),
]


@pytest.fixture(scope="module", params=SERVERS)
def friendly(request: pytest.FixtureRequest) -> Iterator[WsServer]:
    with running(request.param, allowed_origins=["https://friend.example"]) as started:
        yield started


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
def test_the_origin_is_checked_before_the_handshake(friendly: WsServer, origin: str | None, status: int) -> None:
    headers = "" if origin is None else f"Origin: {origin.format(port=friendly.port)}\r\n"
    with StrictClient(friendly.port, headers=headers) as client:
        assert client.status == status
        if status == 403:
            assert "application/problem+json" in client.head
        else:
            assert client.subscribe()["type"] == "ready"


def test_behind_a_proxy_the_own_origin_is_the_outer_one() -> None:
    forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n"
    with running("pywsgi", proxy_fix=True) as server:
        for origin, status in [
            ("https://shop.example", 101),
            ("http://shop.example", 403),
            ("https://evil.example", 403),
        ]:
            with StrictClient(server.port, headers=f"{forwarded}Origin: {origin}\r\n") as client:
                assert client.status == status
