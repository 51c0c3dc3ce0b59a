"""The parts of a safe connection that need no server."""

from __future__ import annotations

import io
import socket
import threading
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from pgevents_push.config import Config
from pgevents_push.transports.ws_caller import Caller
from pgevents_push.transports.ws_flood import Allowance, FrameCounter
from pgevents_push.transports.ws_handshake import guard_environ
from pgevents_push.transports.ws_protocol import joined
from pgevents_push.transports.ws_socket import SEND_BUFFER_BYTES, GuardedSocket
from tests.fixtures.ws_client import client_frame


def test_an_allowance_is_a_burst_and_then_a_rate() -> None:
    now = 0.0
    allowance = Allowance(3, 2, lambda: now)
    assert [allowance.take(1) for _ in range(4)] == [True, True, True, False]
    now = 1.0  # the failed attempt counted too
    assert [allowance.take(1), allowance.take(1)] == [True, False]
    now = 100.0
    assert [allowance.take(1) for _ in range(4)] == [True, True, True, False]


@given(
    st.lists(
        st.tuples(st.sampled_from([0x81, 0x00, 0x89, 0x8A]), st.sampled_from([0, 1, 125, 126, 300, 65535, 65536]))
    ),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_frames_are_counted_however_they_arrive(sizes: list[tuple[int, int]], cuts: list[int]) -> None:
    data = b"".join(client_frame(first, b"\x81" * size) for first, size in sizes)
    counter, found, at, number = FrameCounter(), 0, 0, 0
    while at < len(data):
        piece = cuts[number % len(cuts)] * (1 if number % 3 else 5000)  # small ones and large ones
        found += counter.feed(data[at : at + piece])
        at, number = at + piece, number + 1
    assert found == len(sizes)


def test_a_head_without_its_last_byte_is_no_frame_yet() -> None:
    counter = FrameCounter()
    assert [counter.feed(bytes([byte])) for byte in client_frame(0x81, b"")] == [0, 0, 0, 0, 0, 1]
    assert counter.feed(b"\x81\xff" + b"\xff" * 8 + b"mask" + b"x" * 10_000) == 1


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=30), st.integers(1, 50))
def test_joining_loses_nothing_and_copies_nothing_large(frames: list[bytes], most: int) -> None:
    batches = list(joined(frames, most))
    assert b"".join(batches) == b"".join(frames)
    assert all(len(batch) <= most or any(batch is frame for frame in frames) for batch in batches)


def a_pair(**limits: Any) -> tuple[GuardedSocket, socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    return GuardedSocket(ours, limits.get("send_timeout", 0.2), limits.get("max_message_bytes", 1000)), ours, theirs


def test_a_write_is_whole_whatever_the_kernel_takes_at_a_time() -> None:
    guard, ours, theirs = a_pair(send_timeout=10)
    data = bytes(range(256)) * 8000
    got = bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(theirs.recv(10_000))

    reader = threading.Thread(target=read)
    reader.start()
    assert guard.send(data) == len(data)
    reader.join(10)
    assert got == data
    ours.close()
    theirs.close()


def test_a_peer_that_takes_nothing_is_an_error_and_after_it_nothing_is_sent() -> None:
    guard, ours, theirs = a_pair()
    with pytest.raises(TimeoutError, match="took nothing"):
        guard.send(b"x" * 10_000_000)
    assert len(_drain(theirs)) > 0
    guard.send(b"behind half a frame")
    assert _drain(theirs) == b""
    ours.close()
    theirs.close()


def _drain(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    data = b""
    try:
        while more := sock.recv(1_000_000):
            data += more
    except BlockingIOError:
        pass
    return data


def test_nothing_follows_the_last_write() -> None:
    guard, ours, theirs = a_pair()
    guard.write(b"bye", last=True)
    guard.write(b"more")
    guard.send(b"a close of simple-websocket's own")
    ours.close()
    assert theirs.recv(100) == b"bye"
    assert theirs.recv(100) == b""
    theirs.close()


def test_our_frames_do_not_follow_a_close_of_simple_websocket() -> None:
    guard, ours, theirs = a_pair()
    guard.start(lambda: None, lambda: False)
    guard.write(b"a change")
    ours.close()
    assert theirs.recv(100) == b""
    theirs.close()


def test_reading_begins_only_when_the_limits_are_set() -> None:
    guard, ours, theirs = a_pair()
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(guard.recv(100)))
    theirs.sendall(b"hello")
    reader.start()
    reader.join(0.1)
    assert got == []
    guard.start(lambda: None, lambda: True)
    reader.join(10)
    assert got == [b"hello"]
    ours.close()
    theirs.close()


def test_a_tcp_socket_is_tuned() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        GuardedSocket(client, 10, 1000)
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER_BYTES  # Linux doubles it


@pytest.mark.parametrize("key", ["werkzeug.socket", "gunicorn.socket"])
def test_the_servers_socket_is_replaced_and_compression_is_off(key: str) -> None:
    ours, theirs = socket.socketpair()
    environ = {key: ours, "HTTP_SEC_WEBSOCKET_EXTENSIONS": "permessage-deflate", "HTTP_HOST": "x"}
    assert guard_environ(environ, Config())
    assert isinstance(environ[key], GuardedSocket)
    assert "HTTP_SEC_WEBSOCKET_EXTENSIONS" not in environ
    later = Caller(Flask(__name__), environ).environ
    assert key not in later
    assert later["wsgi.input"].read() == b""
    ours.close()
    theirs.close()


def test_an_unknown_server_is_told_apart() -> None:
    assert not guard_environ({"wsgi.input": io.BytesIO(), "SERVER_SOFTWARE": "wsgiref"}, Config())
    assert not guard_environ({"wsgi.input": io.BytesIO(), "eventlet.input": object()}, Config())
