"""Retention under fire: writers, pruners and readers at once, with a ring that turns each 1.6 s.

A reader that follows its cursors gets every change, or is told that its cursor is not kept: never less in silence,
and never told so without need. FAULTS_SEED=n replays the random choices of a run; every run prints its seed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pgevents_push.capture import Retention
from pgevents_push.cursor import Snapshot
from pgevents_push.errors import CursorError
from pgevents_push.event import TableName
from pgevents_push.listener import Connection, Pruned, is_kept, prune, read_position, read_since
from tests.fixtures.capture import installer
from tests.fixtures.chance import SEED
from tests.fixtures.postgres import Database

SECONDS = 8.0
KEEP_SECONDS = 1.0
# Truth lies in a table that nobody captures or empties, written by the same transactions.
SCHEMA = """
CREATE TABLE work (id bigint PRIMARY KEY);
CREATE TABLE truth (
  id bigint PRIMARY KEY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), began timestamptz NOT NULL DEFAULT now()
);
CREATE SEQUENCE ids;
"""
_WRITE = (
    "WITH made AS (INSERT INTO truth (id) SELECT nextval('ids') FROM generate_series(1, %s) RETURNING id)"
    " INSERT INTO work SELECT id FROM made"
)
_MISSED = (
    "SELECT count(*) FROM truth WHERE pg_visible_in_snapshot(xid, %s::pg_snapshot)"
    " AND NOT pg_visible_in_snapshot(xid, %s::pg_snapshot) AND NOT id = ANY (%s::bigint[])"
)
# Whether a transaction that a cursor has in flight had been open for longer than the log keeps, and has ended.
_LONG = (
    "SELECT count(*) FROM truth WHERE xid = ANY (%s::xid8[]) AND pg_xact_status(xid) = 'committed'"
    " AND began < clock_timestamp() - interval '1 second'"
)


@dataclass(frozen=True)
class Segment:
    """What a reader got from one cursor to the next, and what it was told about the first one."""

    start: Snapshot
    end: Snapshot
    ids: tuple[int, ...]
    kept: bool
    seconds: float


@pytest.fixture
def ring(database: Database) -> Database:
    database.execute(SCHEMA)
    installer(database, retention=Retention(KEEP_SECONDS, 10**9)).install([TableName("public", "work")])
    return database


class Threads:
    """Runs functions side by side until the time is over; whatever one raises fails the test."""

    def __init__(self) -> None:
        self.until = time.monotonic() + SECONDS
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, function: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=self._run, args=[function, *args])
        self._threads.append(thread)
        thread.start()

    def _run(self, function: Callable[..., None], *args: Any) -> None:
        try:
            while time.monotonic() < self.until:
                function(*args)
        except BaseException as error:
            self.errors.append(error)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
        assert not self.errors, self.errors


def write(connection: Any, chance: random.Random, longest: float) -> None:
    """One transaction in one to three steps, some of them rolled back."""
    with connection.cursor() as cursor:
        for _ in range(chance.randint(1, 3)):
            cursor.execute(_WRITE, [chance.randint(1, 20)])
            time.sleep(chance.random() ** 3 * longest)
    if chance.random() < 0.1:
        connection.rollback()
    else:
        connection.commit()


def prune_again(connection: Connection, pruned: list[Pruned]) -> None:
    pruned += prune(connection.execute)
    time.sleep(0.03)


class Following:
    """A reader that sleeps now and then, and begins anew where it is told that it lost something."""

    def __init__(self, database: Database, chance: random.Random, longest: float) -> None:
        self.segments: list[Segment] = []
        self._chance, self._longest = chance, longest
        self.connection = Connection(database.dsn, 20)
        self._at = time.monotonic()
        self._cursor = read_position(self.connection.execute)

    def follow(self) -> None:
        time.sleep(0.01 if self._chance.random() < 0.8 else self._chance.random() * self._longest)
        start, ids, whole, began = self._cursor, [], True, self._at
        self._at = time.monotonic()  # the next cursor is not older than this
        try:
            for batch in read_since(self.connection.execute, start, 50):
                ids += [int(str(event.pk["id"])) for event in batch.events]
                self._cursor = batch.cursor
        except CursorError:
            whole = False
        kept = is_kept(self.connection.execute, start.snapshot) and whole
        if not kept:
            self._cursor = read_position(self.connection.execute)
        seconds = time.monotonic() - began
        self.segments.append(Segment(start.snapshot, self._cursor.snapshot, tuple(ids), kept, seconds))


@pytest.fixture
def readers(ring: Database) -> Iterator[tuple[Following, Following]]:
    live, lagging = Following(ring, random.Random(SEED), 0.1), Following(ring, random.Random(SEED + 1), 4.0)
    yield live, lagging
    for reader in (live, lagging):
        reader.connection.close()


def false_gaps(database: Database, segments: list[Segment]) -> list[Segment]:
    """Told of a loss although the cursor was younger than all that is emptied, and had nothing old in flight."""
    quick = [segment for segment in segments if not segment.kept and segment.seconds < KEEP_SECONDS * 0.8]
    return [s for s in quick if database.execute(_LONG, [str(x) for x in s.start.xip]) == [(0,)]]


@pytest.mark.slow
def test_every_change_or_the_word_that_some_are_gone(ring: Database, readers: tuple[Following, Following]) -> None:
    print(f"FAULTS_SEED={SEED}")
    live, lagging = readers
    threads = Threads()
    for number in range(4):
        longest = 3.0 if number == 0 else 0.05
        threads.start(write, ring.connect(autocommit=False), random.Random(SEED + 10 + number), longest)
    pruned: list[Pruned] = []
    pruners = [Connection(ring.dsn, 20) for _ in range(2)]
    for connection in pruners:
        threads.start(prune_again, connection, pruned)
    for reader in readers:
        threads.start(reader.follow)
    threads.join()
    for connection in pruners:
        connection.close()
    emptied = sum(p.emptied for p in pruned)
    lost = [s for s in (*live.segments, *lagging.segments) if s.kept and missed(ring, s)]
    counts = {name: [sum(s.kept for s in r.segments), sum(not s.kept for s in r.segments)]
              for name, r in (("live", live), ("lagging", lagging))}  # fmt: skip
    print(f"emptied {emptied}, kept and told: {counts}")
    assert not lost, lost[:3]
    assert emptied > 10
    assert not false_gaps(ring, [*live.segments, *lagging.segments])
    assert counts["live"][0] > 50
    assert counts["lagging"][1] > 0  # the ring was really too short for it


def missed(database: Database, segment: Segment) -> int:
    """How many changes between two cursors the reader did not get. It never gets one twice."""
    assert len(set(segment.ids)) == len(segment.ids)
    [(count,)] = database.execute(_MISSED, str(segment.end), str(segment.start), list(segment.ids))
    return int(count)
