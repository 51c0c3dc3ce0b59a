"""Handing over under gevent: when it is not done, what it must survive, and that nobody waits for anybody else."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures import programs
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.raw_stream import RawStream
from tests.fixtures.servers import ROOT, ServerName, Serving, free_port, serving
from tests.fixtures.ws_client import TalkingClient

CERTIFICATE = ROOT / "tests/fixtures/localhost.pem"
APP = "tests.fixtures.watched_app:app"
SETTINGS: dict[str, Any] = {"heartbeat_seconds": 0.5, "poll_seconds": 0.2}


@contextmanager
def served(
    database: Database, name: ServerName = "gevent", options: tuple[str, ...] = (), **settings: Any
) -> Iterator[Serving]:
    database.execute(programs.SCHEMA)
    with serving(name, database.url, 1, options, APP, **{**SETTINGS, **settings}) as server:
        yield server


def insert(database: Database, *ids: int) -> None:
    database.execute("INSERT INTO orders (id) SELECT unnest(%s)", list(ids))


def until_left(server: Serving, **wanted: int) -> None:
    wait_until(lambda: wanted.items() <= server.get("/left").items())


# --- In doubt the server keeps its connection


@pytest.mark.parametrize("kind", ["gzip", "comment", "write"])
def test_bytes_that_pass_somebody_else_stay_with_the_server(
    database: Database, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHED", kind)
    with served(database) as server, socket.create_connection(("127.0.0.1", server.ports[0]), 10) as client:
        client.sendall(b"GET /pgevents/stream?table=orders HTTP/1.0\r\n\r\n")
        until_left(server, connections=1)
        body, raw = zlib.decompressobj(wbits=31), b""
        for number in range(1, 4):
            insert(database, number)
            while b'"pk":{"id":%d}' % number not in raw:
                data = client.recv(65_536)
                assert data
                raw += (
                    body.decompress(data[data.find(b"\x1f\x8b") :])
                    if kind == "gzip" and not raw
                    else (body.decompress(data) if kind == "gzip" else data)
                )
        assert server.get("/left")["handed_over"] == 0
        assert raw.count(b"event: insert") == 3
        assert (b": put in" in raw) is (kind == "comment")


def test_tls_stays_with_the_server(database: Database) -> None:
    port = free_port()
    with (
        served(database, "pywsgi", (str(port), str(CERTIFICATE))) as server,
        RawStream(port, tls=True).ready() as secret,
        RawStream(server.ports[0]).ready() as plain,
    ):
        until_left(server, connections=2, handed_over=1)
        insert(database, 1)
        assert secret.changes(1)[0].data == plain.changes(1)[0].data


def test_a_unix_socket_is_handed_over_too(database: Database, tmp_path: Path) -> None:
    """gunicorn behind nginx."""
    path = str(tmp_path / "socket")
    with served(database, options=("-b", f"unix:{path}")) as server, RawStream(path).ready() as stream:
        until_left(server, handed_over=1)
        insert(database, 1)
        stream.changes(1)
        stream.close()
        until_left(server, connections=0, handed_over=0)


def test_a_websocket_over_tls_stays_with_the_server(database: Database) -> None:
    port = free_port()
    with (
        served(database, "pywsgi", (str(port), str(CERTIFICATE))) as server,
        TalkingClient(port, tls=True) as secret,
        TalkingClient(server.ports[0]) as plain,
    ):
        for client in (secret, plain):
            client.live()
        until_left(server, connections=2, handed_over=1)
        insert(database, 1)
        assert secret.changes(1)[0]["row"] == plain.changes(1)[0]["row"]


def test_a_websocket_over_a_unix_socket_is_handed_over_too(database: Database, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with served(database, options=("-b", f"unix:{path}")) as server, TalkingClient(path) as client:
        client.live()
        until_left(server, handed_over=1)
        insert(database, 2)
        client.changes(1)
        client.close()
        until_left(server, connections=0, handed_over=0)


# --- What it is good for


def test_streams_do_not_use_up_the_connections_of_a_worker(database: Database) -> None:
    with served(database, options=("--worker-connections", "20")) as server, ExitStack() as stack:
        streams = [stack.enter_context(RawStream(server.ports[0]).ready()) for _ in range(60)]
        until_left(server, handed_over=60)
        insert(database, 1)
        for stream in streams:
            stream.changes(1)


def test_the_options_of_the_connections(database: Database) -> None:
    with served(database) as server, RawStream(server.ports[0]).ready():
        until_left(server, handed_over=1)
        [options] = server.get("/sockets")
    assert 128_000 <= options["sndbuf"] <= 512_000
    assert options["nodelay"]
    assert options["user_timeout"] == 60_000


# --- What it must survive


def test_a_forked_child_writes_to_nobody(database: Database) -> None:
    with served(database, "pywsgi") as server, RawStream(server.ports[0]).ready() as stream:
        until_left(server, handed_over=1)
        child = server.get("/fork")["child"]
        try:
            for number in range(1, 31):
                insert(database, number)
                stream.changes(number)
            assert stream.ids == list(range(1, 31))
            wait_until(lambda: stream_has_syncs(stream, 3))
            wait_until(lambda: server.get("/stop")["stopped"] in server.pids)
            stream.end()  # although the child has the connection too
            assert stream.finished
        finally:
            os.kill(child, signal.SIGKILL)


def stream_has_syncs(stream: RawStream, count: int) -> bool:
    stream.read()
    return stream.names[-count:] == ["sync"] * count


def test_a_bug_costs_a_reconnect_and_nothing_else(database: Database) -> None:
    with served(database) as server, RawStream(server.ports[0]).ready() as stream:
        until_left(server, handed_over=1)
        insert(database, 1)
        stream.changes(1)
        server.get("/break")
        insert(database, 2)
        stream.end()
        assert not stream.finished, "cut off, so that the client knows it"
        assert "the broadcaster failed" in server.output()
        with RawStream(server.ports[0], since=stream.seen[-1].id).ready() as back:
            until_left(server, connections=1, handed_over=1)
            insert(database, 3)
            back.changes(2)
            assert back.ids == [2, 3]


def test_who_takes_nothing_is_dropped(database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Over a UNIX socket, where no TCP notices."""
    monkeypatch.setenv("STUCK_SECONDS", "1")
    path = str(tmp_path / "socket")
    with (
        served(database, options=("-b", f"unix:{path}")) as server,
        RawStream(path, "table=orders").ready(),
        RawStream(server.ports[0], "table=orders&events=delete").ready() as other,
    ):
        until_left(server, handed_over=2)
        database.execute("INSERT INTO orders SELECT n, repeat('x', 3000) FROM generate_series(1, 500) AS n")
        until_left(server, connections=1, handed_over=1)
        database.execute("DELETE FROM orders WHERE id = 1")
        other.changes(1)


# --- Nobody waits for anybody else


class Readers:
    """Streams that are read by a thread, which only counts."""

    def __init__(self, streams: list[RawStream]) -> None:
        self._socks = [stream.sock for stream in streams]
        self.counts = dict.fromkeys(self._socks, 0)
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        poller = select.epoll()
        for sock in self._socks:
            poller.register(sock, select.EPOLLIN)
        by_fd = {sock.fileno(): sock for sock in self._socks}
        while not self._stop:
            for fd, _ in poller.poll(0.1):
                data = by_fd[fd].recv(1 << 20)
                self.counts[by_fd[fd]] += data.count(b"\nevent: insert\n")
        poller.close()

    def stop(self) -> None:
        self._stop = True
        self._thread.join()


@pytest.mark.slow
def test_a_burst_stops_nobody(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """While ten thousand rows go to each of 60 clients, ordinary requests are answered, and no greenlet waits long."""
    monkeypatch.setenv("TICK", "1")
    with served(database) as server, ExitStack() as stack:
        crowd = [stack.enter_context(RawStream(server.ports[0]).ready()) for _ in range(60)]
        until_left(server, handed_over=60)
        readers = Readers(crowd)
        stack.callback(readers.stop)
        [worker] = map(psutil.Process, server.pids)
        server.get("/standstill")
        before = sum(worker.cpu_times()[:2])
        database.execute("INSERT INTO orders (id) SELECT generate_series(1, 10000)")
        answers: list[float] = []
        while not answers or min(readers.counts.values()) < 10_000:
            asked = time.monotonic()
            server.health(server.ports[0])
            answers.append(time.monotonic() - asked)
            assert sum(answers) < 60, readers.counts
        longest = server.get("/standstill")["longest"]
        used = sum(worker.cpu_times()[:2]) - before
    print(f"{len(answers)} requests, {max(answers):.3f} s at most; still {longest:.3f} of {used:.1f} s of CPU at most")
    assert sorted(answers)[len(answers) // 2] < 1
    # The listener reads a tenth of the rows at once; on a quiet machine that is less than 0.1 s. Without turns: all.
    assert longest < 0.3 * used
