"""Leaks: whatever comes and goes, in the end a worker has what it had: greenlets, connections, files, memory."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.faults.probes import PATIENCE_SECONDS, probing, until
from tests.faults.soak_clients import Socket, Stream
from tests.faults.soak_nemeses import KILL
from tests.faults.stage import Stage, staged

pytestmark = pytest.mark.alone

CYCLES, VISITORS, ROWS = 10, 12, 100
# Of 70 MB: what Python's memory moves by itself.
MOST_GROWTH = 1.03
MOST_LATENCY_SECONDS = 1.0
STREAM = b"GET /pgevents/stream?table=probe HTTP/1.1\r\nHost: x\r\n\r\n"
SOCKET = (
    b"GET /pgevents/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with staged(history_bytes=0) as stage:  # who comes back is answered from the log
        yield stage


def memory(stage: Stage) -> int:
    """Of the larger worker, in bytes."""
    return max(psutil.Process(pid).memory_info().rss for pid in stage.workers())


def check_nothing_left(stage: Stage, before: dict[str, int], memory_before: int) -> None:
    assert until(lambda: not stage.grown(before), 15), (stage.grown(before), stage.remains())
    after = memory(stage)
    print(f"memory: {memory_before / 1e6:.1f} MB, then {after / 1e6:.1f} MB; {stage.alive()}")
    assert after < MOST_GROWTH * memory_before


class Visitor:
    """Comes, gets what it missed, and vanishes; each time by the other transport."""

    def __init__(self) -> None:
        self.cursor = ""
        self.keys: list[int] = []
        self.gaps = 0
        self._visits = 0

    def _got(self, name: str, cursor: str, data: Any) -> None:
        self.cursor = cursor or self.cursor
        self.gaps += name == "gap"
        if name == "insert":
            self.keys.append(data["pk"]["id"])

    def visit(self, port: int, last: int) -> None:
        """Stay until the row with this key has come; 0: until there is a position."""
        self._visits += 1
        source = (Stream, Socket)[self._visits % 2](port, ["probe"], self.cursor, self._got)
        ends = time.monotonic() + PATIENCE_SECONDS
        while not self.cursor or (last and self.keys[-1:] != [last]):
            assert source.look(), "the server hung up"
            assert time.monotonic() < ends, self.keys[-1:]
        if self._visits % 3:
            source.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        source.sock.close()


def test_ten_cycles_of_everything(stage: Stage) -> None:
    """Listeners lose their connections; clients come back, get what they missed, and vanish."""
    visitors = [Visitor() for _ in range(VISITORS)]
    for visitor in visitors:
        visitor.visit(stage.port, 0)
    for number in range(1, 4):  # what is made once comes with the first of its kind
        cycle(stage, visitors, number)
    before, memory_before = stage.alive(), memory(stage)
    for number in range(4, 4 + CYCLES):
        cycle(stage, visitors, number)
    check_nothing_left(stage, before, memory_before)
    for visitor in visitors:
        assert visitor.keys == list(range(1, (3 + CYCLES) * ROWS + 1))
        assert not visitor.gaps


def cycle(stage: Stage, visitors: list[Visitor], number: int) -> None:
    last = number * ROWS
    stage.execute(f"INSERT INTO probe SELECT generate_series({last - ROWS + 1}, {last})")
    stage.execute(KILL)
    stage.proxy.cut()
    for visitor in visitors:
        visitor.visit(stage.port, last)


def vanish(port: int, chance: random.Random) -> None:
    """Connect, get so far as chance wants, and reset the connection."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        request = chance.choice((STREAM, SOCKET))
        how = chance.choice(("nothing", "half", "whole", "answered"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "nothing":
            sock.sendall(request[: len(request) // 2] if how == "half" else request)
        if how == "answered":
            assert sock.recv(65536)


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_clients_that_vanish(stage: Stage, count: int) -> None:
    chance = random.Random(count)
    with probing(stage) as probes:
        for _ in range(200):
            vanish(stage.port, chance)
        until(lambda: False, 1)
        before, memory_before, latencies = stage.alive(), memory(stage), list[float]()
        for number in range(count):
            vanish(stage.port, chance)
            if number % 100 == 0:
                latencies.append(probes.deliver())
        check_nothing_left(stage, before, memory_before)
        print(f"{count} connections; live changes took at most {max(latencies) * 1000:.0f} ms")
        assert max(latencies) < MOST_LATENCY_SECONDS
