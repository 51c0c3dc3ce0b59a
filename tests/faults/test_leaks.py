"""Leaks: whatever comes and goes, in the end a worker has what it had: greenlets, connections, files, memory.

For clients that vanish: `pytest -m soak -s tests/faults/test_leaks.py` lets 100,000 of each kind come.
"""

from __future__ import annotations

import socket
import statistics
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
from tests.faults.vanishing import SOCKET, STREAM, Vanishing

CYCLES, VISITORS, ROWS = 10, 12, 100
# Of 70 MB: what Python's memory moves by itself.
MOST_GROWTH = 1.03
MOST_LATENCY_SECONDS = 1.0


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


# What they ask for, and whether the connection leaves the server.
MIXED = "mixed"
KINDS = {
    "SSE, handed over": ((STREAM,), True),
    "WebSocket, handed over": ((SOCKET,), True),
    "SSE, kept": ((STREAM,), False),
    "WebSocket, kept": ((SOCKET,), False),
}
MANY = [pytest.mark.soak, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("count", "kind"), [(1_000, MIXED), *(pytest.param(100_000, kind, marks=MANY) for kind in KINDS)]
)
def test_clients_that_vanish(count: int, kind: str) -> None:
    requests, handover = KINDS.get(kind, ((STREAM, SOCKET), True))
    with staged(history_bytes=0, handover=handover) as stage, probing(stage) as probes:
        crowd = Vanishing(stage.port, requests, count)
        crowd.come(200, probes.deliver)
        until(lambda: False, 1)
        before, memory_before = stage.alive(), memory(stage)
        print(f"\n{kind}, before: {before['fds']} files, {memory_before / 1e6:.1f} MB")
        for part in (count // 10, count - count // 10):
            latencies, seconds = crowd.come(part, probes.deliver)
            check_nothing_left(stage, before, memory_before)
            delays = f"live changes took {statistics.median(latencies):.3f} s, at most {max(latencies):.3f} s"
            print(f"{part} came, {part / seconds:.0f}/s; {stage.alive()['fds']} files; {delays}")
            assert max(latencies) < MOST_LATENCY_SECONDS
