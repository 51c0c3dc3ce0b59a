"""Who reads snapshots: how many at a time, in which order, and what becomes of failures. The database is played."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from pgevents_push.errors import ConnectionLost, Overdue, PGEventsError, Refused, RowsError, TooSlow
from pgevents_push.event import CHANGE_TYPES, TableName
from pgevents_push.extension.snapshots import CHUNK_CHARACTERS, Snapshots, chunks
from pgevents_push.hub import Chunk, Shipment, View
from pgevents_push.listener import Connection
from tests.fixtures.patience import wait_until

TABLE = TableName("public", "t")
VIEW = View(TABLE, frozenset(CHANGE_TYPES), None, None, lambda event, view: None)


class FakeConnection:
    """A database with one row in each table; `gate` holds up whoever reads it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.fetched = 0
        self.closed = False

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        if "relkind" in statement:
            return [(1, "r", "public", "t", "app", True, False)]
        if "attname" in statement:
            return [("id", '"id"', False, False, 1)]
        if "pg_control_system" in statement:
            return [("10:10:", "9", "abcd")]
        if statement.startswith("FETCH"):
            self.world.reading.release()
            self.world.gate.wait(10)
            if self.world.error:
                raise self.world.error
            self.fetched += 1
            return [('{"pk":{},"row":{}}', None, None)] if self.fetched % 2 else []
        return []

    @contextmanager
    def transaction(self, tables: Any, seconds: float) -> Iterator[Any]:
        yield self.execute

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, readers: int = 2) -> None:
        self.made: list[FakeConnection] = []
        self.gate, self.reading = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.error: Exception | None = None
        self.heard = True
        self.snapshots = Snapshots(self.connect, lambda cursor, seconds: self.heard, readers, 5.0, 1000)

    def connect(self) -> Connection:
        self.made.append(FakeConnection(self))
        return cast(Connection, self.made[-1])

    def take(self) -> Shipment:
        shipment = Shipment(lambda chunk: b",".join(row.encode() for row in chunk.rows), 1000, lambda: None)
        self.snapshots.take([VIEW], None, shipment)
        return shipment

    def idle(self) -> None:
        wait_until(lambda: self.snapshots._at_work == 0)


def test_the_rows_and_their_moment_come_and_nothing_stays() -> None:
    world = World()
    shipment = world.take()
    world.idle()
    assert (str(shipment.cursor), shipment.take(), shipment.done) == ("abcd~10:10:", b'{"pk":{},"row":{}}', True)
    assert [connection.closed for connection in world.made] == [True]


def test_no_more_are_read_at_a_time_than_allowed_and_who_came_first_is_first() -> None:
    world = World(readers=2)
    world.gate.clear()
    shipments = [world.take() for _ in range(6)]
    for _ in range(2):
        assert world.reading.acquire(timeout=30)
    assert [shipment.cursor is not None for shipment in shipments] == [True, True, False, False, False, False]
    shipments[2].close()
    world.gate.set()
    world.idle()
    assert [shipment.cursor is not None for shipment in shipments] == [True, True, False, True, True, True]
    assert len(world.made) == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionLost("gone"), ConnectionLost),
        (Overdue("canceled"), TooSlow),
        (Refused("no such operator", "UndefinedFunction"), RowsError),
        (ZeroDivisionError("a bug"), RowsError),
    ],
)
def test_a_failure_is_told_and_costs_the_next_one_nothing(
    error: Exception, told: type[PGEventsError], caplog: pytest.LogCaptureFixture
) -> None:
    world = World(readers=1)
    world.error = error
    failed = world.take()
    world.idle()
    with pytest.raises(told):
        failed.take()
    assert world.made[0].closed
    world.error = None
    next_one = world.take()
    world.idle()
    assert next_one.take()
    assert (told is RowsError) == bool(caplog.records)


def test_no_row_is_shown_before_this_process_has_heard_of_what_was_before_it() -> None:
    world = World()
    world.heard = False
    failed = world.take()
    world.idle()
    with pytest.raises(ConnectionLost, match="listener is behind"):
        failed.take()
    assert failed.cursor is None


def test_who_waits_in_line_when_the_process_stops_is_sent_away() -> None:
    world = World(readers=1)
    world.gate.clear()
    first, second = world.take(), world.take()
    assert world.reading.acquire(timeout=30)
    world.snapshots.close()
    with pytest.raises(ConnectionLost, match="stopping"):
        second.take()
    world.gate.set()
    world.idle()
    assert first.take()


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([], [0]), ([5], [1]), ([CHUNK_CHARACTERS], [1]), ([CHUNK_CHARACTERS, 1], [1, 1]), ([40_000] * 5, [2, 2, 1])],
)
def test_chunks_have_a_first_and_a_last_one(sizes: list[int], expected: list[int]) -> None:
    made: list[Chunk] = list(chunks(TABLE, ("x" * size for size in sizes)))
    assert [len(chunk.rows) for chunk in made] == expected
    assert [chunk.first for chunk in made] == [True] + [False] * (len(made) - 1)
    assert [chunk.last for chunk in made] == [False] * (len(made) - 1) + [True]
