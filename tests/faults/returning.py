"""Everybody comes back at once: what they got, and what somebody notices who was never away."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.faults.crowd import Found, crowd
from tests.faults.follower import Follower
from tests.faults.probes import Threads, until
from tests.faults.stage import Stage, staged

MISSED = 1_000
OPTIONS = ["--worker-connections", "2000"]
# Where the missed changes come from. The workers of who is answered from the log are new: as after a deploy.
SOURCES = ("memory", "log")
HISTORY_BYTES = 64_000_000
PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Return:
    """:param seconds: until the last one had caught up.
    :param quiet, stormy: the milliseconds of live changes before and meanwhile, ascending.
    """

    clients: int
    source: str
    seconds: float
    quiet: list[float]
    stormy: list[float]
    found: Found
    ids: list[int]


def come_back(clients: int, source: str) -> Return:
    """Let so many clients miss MISSED changes each, and come back."""
    with staged(history_bytes=HISTORY_BYTES, options=OPTIONS) as stage:
        with Follower(stage.port, "item") as follower:
            since = follower.cursor
        ids = write(stage, MISSED)
        if source == "log":
            stage.deploy()
        with living(stage) as live:
            until(lambda: False, 3)
            quiet = live.take()
            with crowd(stage.port, "item", since, clients, wait=False) as coming:
                began = time.monotonic()
                coming.answer()
                found = coming.until(ids[-1])
                seconds = time.monotonic() - began
                return Return(clients, source, seconds, quiet, live.take(), found, ids)


class Live:
    """Somebody who was never away: how long each change takes from its commit to this client, in milliseconds."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._number = 0
        self._sent: dict[int, float] = {}
        self.milliseconds: list[float] = []

    def write(self, stop: threading.Event) -> None:
        connection = self._stage.connect()
        with connection.cursor() as cursor:
            while not stop.wait(PAUSE_SECONDS):
                self._number += 1
                self._sent[self._number] = time.monotonic()
                cursor.execute(f"INSERT INTO probe VALUES ({self._number})")
                self._sent[self._number] = time.monotonic()
        connection.close()

    def read(self, stop: threading.Event) -> None:
        with Follower(self._stage.port, "probe") as follower:
            follower.sock.settimeout(30)
            seen = 0
            while not stop.is_set() or seen < self._number:
                assert follower.read(), follower.others
                now = time.monotonic()
                for change in follower.changes[seen:]:
                    self.milliseconds.append((now - self._sent[change["pk"]["id"]]) * 1000)
                    seen += 1
            assert follower.keys() == list(range(1, self._number + 1))
            assert set(follower.others) <= {"ready", "sync"}

    def take(self) -> list[float]:
        taken, self.milliseconds = sorted(self.milliseconds), []
        return taken


@contextmanager
def living(stage: Stage) -> Iterator[Live]:
    errors: list[str] = []
    live, writer, reader = Live(stage), Threads(errors), Threads(errors)
    reader.start(live.read)
    writer.start(live.write)
    assert until(lambda: live.milliseconds)
    yield live
    writer.end()
    reader.end()
    assert not errors, errors


def figures(values: list[float]) -> str:
    p50, p99 = statistics.median(values), values[int(len(values) * 0.99)]
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {values[-1]:.1f} ms of {len(values)}"


def write(stage: Stage, rows: int) -> list[int]:
    """Commit so many changes of `item`, one by one; return the ids of their events."""
    connection = stage.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(max(id), 0) FROM item")
        first = cursor.fetchone()[0] + 1
        for key in range(first, first + rows):
            cursor.execute("INSERT INTO item (id) VALUES (%s)", [key])
    connection.close()
    return event_ids(stage)


def event_ids(stage: Stage) -> list[int]:
    return [id_ for (id_,) in stage.execute("SELECT id FROM pgevents.log WHERE table_name = 'item' ORDER BY id")]


def check(found: Found, clients: int, ids: list[int]) -> None:
    """Each of them got these, once and in this order, and was never told that something is lost."""
    assert found.others == 1, (found.told, [(len(kind), n) for kind, n in found.kinds])
    [(got, count)] = found.kinds
    assert (got, count) == (ids, clients)
    assert "gap" not in found.told, found.told
