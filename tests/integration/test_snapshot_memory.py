"""A table that is larger than memory should be goes through a worker in small pieces, and nobody else waits for it."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.fixtures import programs
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.servers import ServerName, serving

ROWS = 200_000
WIDTH = 200
WAITS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'FETCH%'
AND state = 'idle in transaction' AND clock_timestamp() > state_change + interval '0.5 s'
"""
# What is read ahead (4 MB) as frames and as rows, and what PostgreSQL's answers take; without bounds it is 150 MB.
MOST_BYTES = 30_000_000

KEY = base64.b64encode(os.urandom(16)).decode()
UPGRADE = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
SUBSCRIBE = json.dumps({"type": "subscribe", "ref": "1", "table": "orders", "snapshot": True}).encode()
# What is asked for, what is sent behind it, what the rows end with.
REQUESTS = {
    "sse": ("/pgevents/stream?table=orders&snapshot=1", "", b"", b"event: ready"),
    "websocket": ("/pgevents/ws", UPGRADE, bytes([0x81, 0x80 | len(SUBSCRIBE)]) + bytes(4) + SUBSCRIBE, b'"ready"'),
    "document": ("/pgevents/snapshot?table=orders", "", b"", b"]}\n"),
}


def receive(port: int, kind: str, pause: Callable[[], object] = lambda: None) -> int:
    """Ask for the rows; return how many bytes came.

    :param pause: called once, before anything is read.
    """
    path, headers, message, end = REQUESTS[kind]
    received, tail = 0, b""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n".encode())
        if message:
            assert connection.recv(4096).startswith(b"HTTP/1.1 101")
            connection.sendall(message)
        pause()
        while end not in tail:
            data = connection.recv(262_144)
            assert data, tail
            received, tail = received + len(data), (tail + data)[-400:]
    return received


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """Yield a list whose one number is how much more memory a process took at most."""
    process, stop, peak = psutil.Process(pid), threading.Event(), [0]
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def until_it_waits(database: Database) -> None:
    """Wait until the worker has read ahead what it may, and PostgreSQL has nothing to do."""
    wait_until(lambda: database.execute(WAITS), 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gevent", "gthread"])
def test_memory_does_not_follow_the_size_of_the_table(database: Database, name: ServerName) -> None:
    database.execute(programs.SCHEMA)
    database.execute(f"INSERT INTO orders SELECT n, repeat('x', {WIDTH}), 0 FROM generate_series(1, {ROWS}) AS n")
    with serving(name, database.url, workers=1) as server:
        (pid,) = server.pids
        receive(server.ports[0], "sse")  # what is loaded with the first request is no matter
        for kind in REQUESTS:
            with watched(pid) as peak:
                assert receive(server.ports[0], kind, lambda: until_it_waits(database)) > ROWS * WIDTH
            assert peak[0] < MOST_BYTES, kind
