"""S17, S19, S20: whoever sends nonsense, too much or too little is cut off, and nobody else notices."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator

import psutil
import pytest

from tests.fixtures.ws_client import BadFrame, StrictClient, client_frame
from tests.fixtures.ws_server import ServerName, WsServer, running


@pytest.fixture(scope="module", params=["gevent", "gevent kept", "gthread"])
def server(request: pytest.FixtureRequest) -> Iterator[WsServer]:
    name: ServerName = request.param
    with running(name, heartbeat_seconds=30, max_queue_bytes=1_000_000, send_timeout_seconds=4) as started:
        yield started


PING = b'{"type":"ping"}'
# What a client may do wrong in a frame (RFC 6455, 5.2), and how we may answer: 1002 and 1007 are the RFC's own.
FRAMES = {
    "a reserved bit": client_frame(0xC1, PING),
    "two reserved bits": client_frame(0xB1, PING),
    "a compressed bomb": client_frame(0xC1, zlib.compress(b"\0" * 60_000_000, 9)[2:-4][:60_000]),
    "an unmasked frame": bytes((0x81, len(PING))) + PING,
    "a reserved opcode": client_frame(0x83, PING),
    "a reserved control opcode": client_frame(0x8B, b""),
    "a fragmented ping": client_frame(0x09, b""),
    "a long ping": client_frame(0x89, b"x" * 126),
    "a continuation of nothing": client_frame(0x80, b"x"),
    "a new message inside of another": client_frame(0x01, b"{") + client_frame(0x81, PING),
    "text that is no UTF-8": client_frame(0x81, b'{"type":"\xff\xfe"}'),
    "half a character": client_frame(0x81, b"\xe2\x82"),
    "a surrogate": client_frame(0x81, b"\xed\xa0\x80"),
    "a length of 2**63": b"\x81\xff" + struct.pack("!Q", 2**63) + b"\0\0\0\0",
    "a length of 4 exabytes": b"\x81\xff" + struct.pack("!Q", 2**62) + b"\0\0\0\0" + b"x" * 70_000,
    "a length written too long": b"\x81\xfe\x00\x05\0\0\0\0hello",
    "a close of one byte": client_frame(0x88, b"\x03"),
    "a close with a forbidden code": client_frame(0x88, struct.pack("!H", 1005)),
    "a close with a reason that is no UTF-8": client_frame(0x88, struct.pack("!H", 1000) + b"\xff"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": b"\0" * 1000,
}
ANSWERS = {1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 4400}


@pytest.mark.parametrize("what", FRAMES)
def test_s19_a_frame_that_may_not_be_ends_the_connection_in_order(server: WsServer, what: str) -> None:
    with StrictClient(server.port) as client:
        client.subscribe()
        client.sock.sendall(FRAMES[what])
        client.sock.settimeout(10)
        try:
            code = client.close_code()
        except (EOFError, ConnectionResetError):
            code = 1005  # closed without a word
        except BadFrame as error:
            raise AssertionError(f"after {what} the server sent something that is no frame") from error
        assert code in ANSWERS
    server.until(connections=0, readers=0, contexts=0)


@pytest.mark.parametrize(
    "flood",
    [client_frame(0x00, b"x"), client_frame(0x89, b""), client_frame(0x81, b"{}" * 4000), client_frame(0x8A, b"pong")],
    ids=["fragments of a byte", "pings", "messages", "pongs"],
)
def test_s19_a_flood_is_ended_soon_and_others_are_served_meanwhile(server: WsServer, flood: bytes) -> None:
    process = psutil.Process(server.process.pid)
    family = [process, *process.children()]
    with StrictClient(server.port) as other:
        other.subscribe()
        quiet = median_delivery(server, other)
        used = sum(sum(one.cpu_times()[:2]) for one in family)
        stop, sent = threading.Event(), [0]
        attackers = [threading.Thread(target=pour, args=[server.port, flood, stop, sent]) for _ in range(3)]
        for attacker in attackers:
            attacker.start()
        busy = median_delivery(server, other)
        until = time.monotonic() + 60
        while sent[0] <= 6 and time.monotonic() < until:
            busy = max(busy, median_delivery(server, other))
        stop.set()
        for attacker in attackers:
            attacker.join(60)
        used = sum(sum(one.cpu_times()[:2]) for one in family) - used
    server.until(connections=0, readers=0)
    print(f"{sent[0]} connections flooded, {used:.2f} s CPU, delivery {quiet * 1000:.1f} -> {busy * 1000:.1f} ms")
    assert sent[0] > 6, "nobody was cut off"
    assert busy < max(0.25, 20 * quiet)
    assert used / sent[0] < 0.2, "seconds of CPU for each connection that floods"


def pour(port: int, flood: bytes, stop: threading.Event, sent: list[int]) -> None:
    """Connect and send until cut off, again and again."""
    while not stop.is_set():
        try:
            with StrictClient(port) as client:
                sent[0] += 1
                client.sock.settimeout(5)
                client.send_frame(0x01, b"x" if flood[0] == 0 else b"{")
                while not stop.is_set():
                    client.sock.sendall(flood * 200)
        except (OSError, EOFError, IndexError):
            continue


def median_delivery(server: WsServer, client: StrictClient, times: int = 21) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        server.get("/feed")
        while client.message()["type"] != "insert":
            pass
        taken.append(time.perf_counter() - began)
    return sorted(taken)[times // 2]


HANDSHAKES = {
    "half of it": b"GET /pgevents/ws HTTP/1.1\r\nHost: x\r\nUpgr",
    "no key": b"Sec-WebSocket-Version: 13\r\n",
    "a key of another size": b"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n",
    "another version": b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 99\r\n",
    "a subprotocol that is no ASCII": b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: \xff\xfe, \xc3\xa9\r\n",
    "extensions without end": b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Extensions: " + b"permessage-deflate; x=y, " * 250 + b"z\r\n",
}


@pytest.mark.parametrize("what", HANDSHAKES)
def test_s19_a_handshake_that_may_not_be_is_a_400_or_a_plain_connection(server: WsServer, what: str) -> None:
    start = b"GET /pgevents/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(HANDSHAKES[what] if what == "half of it" else start + HANDSHAKES[what] + b"\r\n")
        if what == "half of it":
            sock.shutdown(socket.SHUT_WR)
        head = sock.recv(65536)
    assert head == b"" or head.split()[1] in (b"400", b"101", b"426"), head
    assert b"Sec-WebSocket-Extensions" not in head
    assert b"Traceback" not in head
    server.until(connections=0, readers=0, contexts=0)


def test_s20_nobody_compresses(server: WsServer) -> None:
    headers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    with StrictClient(server.port, headers=headers) as client:
        assert client.status == 101
        assert "extensions" not in client.head.lower()


def test_s20_a_bomb_costs_no_memory(server: WsServer) -> None:
    """400 MB of zeros in 400 kB, as frames that claim to be compressed."""
    process = psutil.Process(server.process.pid)
    family = [process, *process.children()]
    before = sum(one.memory_info().rss for one in family)
    bomb = zlib.compress(b"\0" * 400_000_000, 9)[2:-4]
    with StrictClient(server.port, headers="Sec-WebSocket-Extensions: permessage-deflate\r\n") as client:
        try:
            client.send_frame(0xC1, bomb)
            client.close_code()
        except (OSError, EOFError):
            pass
    server.until(connections=0, readers=0)
    assert sum(one.memory_info().rss for one in family) - before < 8_000_000


def test_s17_one_that_never_reads_costs_its_own_connection_and_no_more(server: WsServer) -> None:
    process = psutil.Process(server.process.pid)
    family = [process, *process.children()]
    with StrictClient(server.port) as reader, StrictClient(server.port, receive_buffer=4096) as stalled:
        reader.subscribe()
        stalled.subscribe(table="other")
        quiet = median_delivery(server, reader)
        before = sum(one.memory_info().rss for one in family)
        feeder = threading.Thread(target=server.get, args=["/feed?table=other&count=2000&size=20000"])
        feeder.start()
        busy = median_delivery(server, reader)
        feeder.join()
        grown = sum(one.memory_info().rss for one in family) - before
        assert server.until(connections=1)["overflows"] >= 1
    print(f"delivery {quiet * 1000:.1f} -> {busy * 1000:.1f} ms, {grown / 1e6:.1f} MB")
    assert grown < 30_000_000
    assert busy < max(0.25, 20 * quiet)


def test_s19_binary_messages_are_refused(server: WsServer) -> None:
    with StrictClient(server.port) as client:
        client.send_frame(0x82, json.dumps({"type": "ping"}).encode())
        assert client.message()["code"] == 400
        assert client.close_code() == 4400
