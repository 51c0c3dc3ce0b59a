"""Reading a long absence: in bounded pieces, put aside and gone on with, and what was missed is counted only once."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import ConnectionLost, CursorError, Overdue
from pgevents_push.event import TableName
from pgevents_push.extension import pages
from pgevents_push.extension.replay import Replay
from pgevents_push.hub import Hub
from pgevents_push.listener import (
    Batch,
    Connection,
    Ears,
    Listener,
    Pulse,
    Reading,
    read_position,
    read_since,
    reader,
    reading,
    with_shapes,
)
from pgevents_push.listener.shapes import read_shapes
from pgevents_push.waiting import Watch
from tests.fixtures.capture import install
from tests.fixtures.postgres import Database

MISSED = 130


class Counting:
    """Runs statements, and counts those that count what was missed, and those that read a piece of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.counted = self.pieces = 0

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        self.counted += statement == reading._TRANSACTIONS
        self.pieces += statement == reading._PIECE
        return self.connection.execute(statement, parameters)

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def log(database: Database) -> Iterator[Counting]:
    database.execute("CREATE TABLE t (id int)")
    install(database, "t")
    counting = Counting(Connection(database.dsn, 10))
    yield counting
    counting.close()


def miss(database: Database, log: Counting) -> tuple[Cursor, list[str]]:
    """Write transactions of one to five rows, and one of 40; return the position before and the ids, in order."""
    start, chance = read_position(log.execute), random.Random(5)
    for number in range(MISSED):
        rows = 40 if number == 60 else chance.randint(1, 5)
        database.execute("INSERT INTO t SELECT generate_series(1, %s)", rows)
    ids = database.execute("SELECT id::text FROM pgevents.log AS l ORDER BY l.id")
    return start, [id_ for (id_,) in ids]


def test_a_reading_goes_on_and_counts_once_a_page_of_transactions(
    database: Database, log: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TRANSACTIONS", 50)
    start, ids = miss(database, log)
    until = read_position(log.execute).snapshot
    batches = list(Reading(start, until, 7).batches(log.execute))
    assert [event.id for batch in batches for event in batch.events] == ids
    assert max(len(batch.events) for batch in batches) <= 7
    assert log.counted == 3
    assert batches[-1].cursor == Cursor(start.epoch, until)
    for batch in random.Random(3).sample(batches[:-1], 12):  # from any of its cursors, as another client would
        rest = [event.id for b in Reading(batch.cursor, until, 11).batches(log.execute) for event in b.events]
        assert rest == ids[ids.index(batch.events[-1].id) + 1 :]


def test_a_client_that_takes_page_after_page_has_its_absence_counted_once(database: Database, log: Counting) -> None:
    start, ids = miss(database, log)
    until = read_position(log.execute).snapshot
    replay = Replay(Hub(), lambda: log, 7)  # type: ignore[arg-type,return-value]
    found: list[str] = []
    cursors = {"one": start, "other": start}
    while cursors:  # two clients by turns, on the same connection
        for name, cursor in list(cursors.items()):
            with replay.page(cursor, until) as page:
                found += [event.id for event in page.events] if name == "one" else []
                cursors[name] = page.cursor
            if page.cursor == Cursor(start.epoch, until):
                del cursors[name]
    assert found == ids
    assert log.counted == 2  # once each, although they are at the same places


def test_a_crowd_is_read_for_once(database: Database, log: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comes a change later than the one before, and is exact to the change; all but these few are read once."""
    monkeypatch.setattr(pages, "FEW", 5)
    start, ids = miss(database, log)
    replay = Replay(Hub(), lambda: log, 7, page_bytes=10_000_000)  # type: ignore[arg-type,return-value]
    pieces: list[int] = []
    for later in range(30):
        until, before = read_position(log.execute).snapshot, log.pieces
        assert walk(replay, start, until) == ids
        pieces.append(log.pieces - before)
        middle = random.Random(later).choice(list(replay._pages._kept))  # somebody was cut off there
        rest = walk(replay, middle, until)
        assert rest == ids[len(ids) - len(rest) :]
        database.execute("INSERT INTO t SELECT 1000")
        ids = [id_ for (id_,) in database.execute("SELECT id::text FROM pgevents.log AS l ORDER BY l.id")]
    assert pieces[0] > 50
    assert max(pieces[1:]) <= 2


def walk(replay: Replay, cursor: Cursor, until: Snapshot) -> list[str]:
    """What a client gets on its way, page after page."""
    found: list[str] = []
    while cursor != Cursor(cursor.epoch, until):
        with replay.page(cursor, until) as page:
            found += [event.id for event in page.events]
            cursor = page.cursor
    return found


def test_what_postgresql_does_not_finish_in_time_is_told_apart(database: Database) -> None:
    connection = Connection(database.dsn, 0.5)
    with pytest.raises(Overdue):
        connection.execute("SELECT pg_sleep(20)")
    connection.close()


def test_a_standstill_is_noticed_while_an_answer_is_waited_for(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy listener does hardly anything else; a slow answer is not one."""
    connection = Connection(database.dsn, 10)
    connection.execute("SELECT pg_sleep(0.5)")
    assert connection.take_overslept() < 0.4
    wait = Watch.wait

    def stand_still(watch: Watch, wanted: list[int], timeout: float) -> set[int]:
        time.sleep(0.5)
        return wait(watch, wanted, timeout)

    monkeypatch.setattr(Watch, "wait", stand_still)
    connection.execute("SELECT 1")
    assert connection.take_overslept() > 0.4
    connection.close()


def test_a_listener_gives_up_what_cannot_be_read_in_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would try for ever else, and hear of nothing new."""
    database.execute("CREATE TABLE t (id int)")
    install(database, "t")
    heard: queue.Queue[str] = queue.Queue()

    def take(batch: Batch) -> None:
        for event in batch.events:
            heard.put(event.type)

    ears = Ears(
        dsn=database.dsn, prepare=lambda: None, on_batch=take, on_lost=lambda: heard.put("lost"), on_round=lambda: None,
        watched=lambda table: False,
        poll_seconds=0.1, heartbeat_seconds=15.0, timeout_seconds=0.5, max_batch_events=1000,
    )  # fmt: skip
    listener = Listener(ears, Pulse(lambda status, error: None))
    listener.start()
    database.execute("SELECT pg_sleep(0.2)")
    for since in ("_SINCE", "_SINCE_NONE_RAN"):
        monkeypatch.setattr(reader, since, "SELECT pg_sleep(20)")
    assert heard.get(timeout=20) == "lost"
    monkeypatch.undo()
    ends = time.monotonic() + 20
    while heard.empty() and time.monotonic() < ends:
        database.execute("INSERT INTO t VALUES (1)")
        time.sleep(0.05)
    listener.stop()
    assert heard.get(timeout=0) == "insert"


def test_who_waits_for_a_lock_is_not_overdue(database: Database, log: Counting) -> None:
    start, _ = miss(database, log)
    other = database.connect(autocommit=False)
    other.cursor().execute("LOCK TABLE pgevents.log")
    connection = Connection(database.dsn, 0.5)
    with pytest.raises(ConnectionLost) as raised:
        list(read_since(connection.execute, start, 10))
    assert not isinstance(raised.value, Overdue)
    other.rollback()
    connection.close()


def test_more_than_fits_is_not_counted_to_its_end(database: Database, log: Counting) -> None:
    """The listener's own statement looks at no more rows than it may return."""
    start, ids = miss(database, log)
    assert [event.id for batch in read_since(log.execute, start, 9) for event in batch.events] == ids
    assert log.counted == 1


def test_an_event_that_is_gone_ends_a_reading(database: Database, log: Counting) -> None:
    start, ids = miss(database, log)
    until = read_position(log.execute).snapshot
    middle = Cursor(start.epoch, start.snapshot, until, int(ids[50]))
    database.execute("DELETE FROM pgevents.log WHERE id = %s", ids[50])
    with pytest.raises(CursorError):
        Reading(middle, until, 5).next(log.execute)


@pytest.mark.parametrize("older", [False, True])
def test_a_log_that_is_emptied_while_much_is_read_is_a_loss(database: Database, log: Counting, older: bool) -> None:
    """Also where changes from before the cursor are left in it."""
    database.execute("INSERT INTO t VALUES (0)")
    start = read_position(log.execute)
    database.execute("INSERT INTO t SELECT generate_series(1, 20)")

    def execute(statement: str, parameters: Any = None) -> list[Any]:
        if statement == reader._NEWEST:
            gone = "WHERE xid >= %s::text::xid8" if older else ""
            database.execute(f"DELETE FROM pgevents.log {gone}", *([str(start.snapshot.xmax)] if older else []))
        return log.execute(statement, parameters)

    with pytest.raises(CursorError, match="emptied while"):
        list(read_since(execute, start, 10))


def test_a_reading_tells_what_the_columns_are_and_were(database: Database, log: Counting) -> None:
    """As shapes.sql does behind it, for any name; one statement says both, so also for a table that is gone by then."""
    mixed = TableName("Other s", 'Mixed "T')
    for statement in (
        "CREATE TYPE mood AS ENUM ('so')", 'CREATE SCHEMA "Other s"',
        """CREATE TABLE "Other s"."Mixed ""T" ("A" int, b mood, gone int)""",
        """ALTER TABLE "Other s"."Mixed ""T" DROP COLUMN gone""",
    ):  # fmt: skip
        database.execute(statement)
    install(database, "t", '"Other s"."Mixed ""T"')
    start = read_position(log.execute)
    database.execute("""INSERT INTO "Other s"."Mixed ""T" VALUES (1, 'so')""")
    database.execute("INSERT INTO t VALUES (1)")
    [batch] = read_since(log.execute, start, 10)
    assert batch.shapes == read_shapes(log.execute, [mixed, TableName("public", "t")])
    assert set(batch.shapes[mixed]) == {"A", "b"}
    assert with_shapes(log.execute, batch, lambda table: True) is batch
    assert with_shapes(log.execute, batch, lambda table: table == mixed).shapes == {mixed: batch.shapes[mixed]}

    database.execute("ALTER TYPE mood ADD VALUE 'la'")
    database.execute("DROP TABLE t")
    [later] = read_since(log.execute, start, 10)
    assert later.shapes[mixed]["A"] == batch.shapes[mixed]["A"]
    assert later.shapes[mixed]["b"] != batch.shapes[mixed]["b"]
    assert later.shapes[TableName("public", "t")] == {}


@pytest.mark.parametrize("most", [2, 1000], ids=["in pieces", "at once"])
def test_who_was_running_is_read_when_it_has_ended(database: Database, log: Counting, most: int) -> None:
    start = read_position(log.execute)
    late = database.connect(autocommit=False)
    late.cursor().execute("INSERT INTO t SELECT generate_series(1, 5)")
    database.execute("INSERT INTO t VALUES (6)")
    *_, batch = read_since(log.execute, start, most)
    assert len(batch.events) == 1
    assert batch.cursor.snapshot.xip
    late.commit()
    late.close()
    batches = list(read_since(log.execute, batch.cursor, most))
    assert sum(len(batch.events) for batch in batches) == 5
    [nothing] = read_since(log.execute, batches[-1].cursor, most)
    assert not nothing.events
    assert nothing.cursor == batches[-1].cursor
    assert not nothing.cursor.snapshot.xip
