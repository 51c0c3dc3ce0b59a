"""haproxy with `timeout 5s` before the app: heartbeats keep idle connections open, and who is cut goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.faults.everybody import fill
from tests.faults.probes import until
from tests.faults.soak_clients import Socket, Stream
from tests.fixtures.haproxy import CUT_SECONDS, haproxy
from tests.fixtures.postgres import Database
from tests.fixtures.servers import serving

IDLE_SECONDS = CUT_SECONDS + 1.5
KINDS = (Stream, Socket)


class Idle:
    """A client of either transport that listens in a thread, until it is cut."""

    def __init__(self, kind: Any, port: int, since: str = "") -> None:
        self.heard: list[str] = []
        self.keys: list[int] = []
        self.cursor = since
        self.ended: float | None = None
        self.source = kind(port, ["orders"], since, self._got)
        self._began = time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()
        assert until(lambda: "ready" in self.heard)

    def _got(self, name: str, cursor: str, data: Any) -> None:
        self.heard.append(name)
        self.cursor = cursor or self.cursor
        if name == "insert":
            self.keys.append(data["pk"]["id"])

    def _run(self) -> None:
        with suppress(OSError, json.JSONDecodeError):
            while self.source.look():
                pass
        self.ended = time.monotonic() - self._began

    def close(self) -> None:
        self.source.sock.close()


@pytest.fixture
def ports(database: Database) -> Iterator[list[int]]:
    """haproxy's, before an app that beats each second, and before one that is silent for 15 s."""
    fill(database)
    with (
        serving("gevent", database.url, workers=1, heartbeat_seconds=1.0) as beating,
        serving("gevent", database.url, workers=1) as silent,
        haproxy(beating.ports[0], silent.ports[0]) as ports,
    ):
        yield ports


def test_idle_connections(database: Database, ports: list[int]) -> None:
    beating, silent = ([Idle(kind, port) for kind in KINDS] for port in ports)
    assert until(lambda: all(client.ended for client in silent), IDLE_SECONDS + 5)
    until(lambda: False, IDLE_SECONDS - CUT_SECONDS)  # some more, for those who must stay
    database.execute("INSERT INTO orders (id) VALUES (100)")
    assert until(lambda: all(client.keys == [100] for client in beating))
    assert [client.ended for client in beating] == [None, None]
    for cut in silent:
        assert cut.ended
        assert CUT_SECONDS - 1 < cut.ended < CUT_SECONDS + 3, "this is not what the test is about"
    back = [Idle(kind, ports[1], cut.cursor) for kind, cut in zip(KINDS, silent, strict=True)]
    assert until(lambda: all(client.keys == [100] for client in back))
    assert all("gap" not in client.heard for client in back)
    for client in (*beating, *silent, *back):
        client.close()
