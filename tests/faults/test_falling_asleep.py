"""Falling asleep against a real PostgreSQL: step by step in every order, and by chance with many writers.

The log is looked into only each 30 s here, so a missed wake-up shows as a change that comes that late.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import combinations
from typing import Any

import pytest

from pgevents_push.listener import Batch, Connection, Doorbell, Ears, Heard, Listener, Pulse, read_position, read_since
from tests.fixtures.capture import install
from tests.fixtures.chance import SEED
from tests.fixtures.postgres import Database

LONG = 30.0
# What "at once" may mean on a busy machine; the slowest legal way is a look each 100 ms.
SOON = 10.0
GATE = 4711  # holds a writer between its insert and its probe


@pytest.fixture
def orders(database: Database) -> Database:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(database, "t")
    # The writer's first step ends here, within its statement: the log has the row, nothing was probed.
    database.execute(
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}, current_setting('test.writer')::int);"
        " RETURN NULL; END $$;"
        "CREATE TRIGGER gate AFTER INSERT ON pgevents.log FOR EACH ROW EXECUTE FUNCTION gate()"
    )
    return database


class SteppedWriter:
    """A transaction whose steps are taken one by one: insert, probe, commit."""

    STEPS = ("insert", "probe", "end")

    def __init__(self, database: Database, pool: ThreadPoolExecutor, number: int, ending: str) -> None:
        self._ending = ending
        self._number = number
        self._pool = pool
        self._gate = database.connect()
        self._gate.cursor().execute("SELECT pg_advisory_lock(%s, %s)", [GATE, number])
        self._database = database
        self._connection = database.connect()
        with self._connection.cursor() as cursor:
            cursor.execute(f"SET test.writer = {number}")
            cursor.execute("BEGIN; SAVEPOINT s" if "ROLLBACK TO" in ending else "BEGIN")
        self._statement: Future[None] | None = None
        self.left = list(self.STEPS)

    def step(self) -> None:
        getattr(self, "_" + self.left.pop(0))()

    def _insert(self) -> None:
        self._statement = self._pool.submit(self._execute, f"INSERT INTO t VALUES ({self._number}, 0)")
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = %s AND NOT granted)"
        until(lambda: self._database.execute(waiting, self._connection.info.backend_pid)[0][0])

    def _probe(self) -> None:
        self._gate.cursor().execute("SELECT pg_advisory_unlock(%s, %s)", [GATE, self._number])
        assert self._statement is not None
        self._statement.result(LONG)

    def _end(self) -> None:
        for statement in self._ending.split("; "):
            self._execute(statement)

    def _execute(self, sql: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)


def until(condition: Any, seconds: float = LONG) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it does not come"
        time.sleep(0.001)


class SteppedLine:
    """The listener's connection; before each of its calls the writers take the steps that the plan has there."""

    def __init__(self, connection: Connection, plan: Sequence[tuple[int, SteppedWriter]]) -> None:
        self._connection = connection
        self._plan = list(plan)
        self.calls = 0
        self.seen: list[Any] = []
        self._cursor = read_position(connection.execute)

    def _steps(self, at_least_one: bool = False) -> None:
        while self._plan and (at_least_one or self._plan[0][0] <= self.calls):
            self._plan.pop(0)[1].step()
            at_least_one = False
        self.calls += 1

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        self._steps()
        return self._connection.execute(statement, parameters)

    def is_shared(self) -> bool:
        return self._connection.is_shared()

    def read(self) -> bool:
        self._steps()
        before = len(self.seen)
        for batch in read_since(self._connection.execute, self._cursor, 1000):
            self.seen += [event.pk["id"] for event in batch.events]
            self._cursor = batch.cursor
        return len(self.seen) > before

    def wait(self, timeout: float) -> Heard:
        heard = self._connection.wait(0)
        while heard == "silent" and self._plan:
            self._steps(at_least_one=True)
            heard = self._connection.wait(0.02)
            if timeout < 1:
                return heard
        return self._connection.wait(min(timeout, SOON)) if heard == "silent" else heard

    pause = wait


def seen_in(database: Database, slots: Sequence[int], ending: str, pool: ThreadPoolExecutor, number: int) -> list[int]:
    """Run one order: slots tell before which call of the listener each step of the writer comes."""
    connection = Connection(database.dsn, 20)
    try:
        writer = SteppedWriter(database, pool, number, ending)
        line = SteppedLine(connection, [(slot, writer) for slot in slots])
        doorbell = Doorbell(line, LONG)
        doorbell.hang()
        ends, found = time.monotonic() + LONG / 2, line.read()
        while (writer.left or not line.seen) and time.monotonic() < ends:
            doorbell.wait(found)
            found = line.read()
            if "ROLLBACK" in ending and not writer.left:
                break
        return line.seen
    finally:
        connection.close()


@pytest.mark.parametrize("ending", ["COMMIT", "PREPARE"])
def test_every_order_of_one_writer_and_the_listener(orders: Database, ending: str) -> None:
    """Calls: 0 LISTEN, 1 read, 2 lock, 3 note, 4 read, 5 first wait, 6 and later looks, reads and waits. What was
    prepared before anybody slept is committed as a prepared one; a writer that rang is refused, which is its end."""
    with ThreadPoolExecutor(2) as pool:
        orders_of = [(a, b, c) for a, c in combinations(range(2, 9), 2) for b in range(a, c + 1)]
        chosen = orders_of if ending == "COMMIT" else [slots for slots in orders_of if slots[1] <= 2]
        for number, slots in enumerate(chosen, start=1):
            script = "COMMIT" if ending == "COMMIT" else f"PREPARE TRANSACTION 'p{number}'; COMMIT PREPARED 'p{number}'"
            began = time.monotonic()
            assert seen_in(orders, slots, script, pool, number) == [number], slots
            assert time.monotonic() - began < SOON, slots


class Writer:
    """A connection that holds transactions for 0 to 300 ms and notes when each commit returned."""

    def __init__(self, database: Database, number: int, seed: int) -> None:
        self.committed: dict[str, float] = {}
        self._chance = random.Random(f"{seed}/{number}")
        self._update = f"UPDATE t SET n = n + 1 WHERE id = {number}"
        self._connection = database.connect(autocommit=False)
        self._execute(f"INSERT INTO t VALUES ({number}, 0)")
        self._connection.commit()

    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def burst(self) -> None:
        """Wake the listener up: so many rings that it stays awake for a while."""
        for _ in range(30):
            self._execute(self._update)
            self._connection.commit()

    def transaction(self) -> None:
        chance, update = self._chance, self._update
        time.sleep(chance.choice((0, 0.01, 0.1)))
        if chance.random() < 0.3:
            self._execute(f"SAVEPOINT a; {update}; ROLLBACK TO a")
        self._execute(f"SAVEPOINT b; {update}; RELEASE b" if chance.random() < 0.3 else update)
        [(tx,)] = self._execute("SELECT pg_current_xact_id()::text")
        time.sleep(chance.choice((0, 0.001, 0.02, 0.1, 0.3)))
        if chance.random() < 0.1:
            self._connection.rollback()
        else:
            self._connection.commit()
            self.committed[tx] = time.monotonic()


@pytest.fixture
def arrivals(orders: Database) -> Iterator[dict[str, float]]:
    """When each transaction reached a listener."""
    orders.execute("DROP TRIGGER gate ON pgevents.log")
    arrived: dict[str, float] = {}

    def take(batch: Batch) -> None:
        arrived.update({event.tx: time.monotonic() for event in batch.events})

    ears = Ears(
        dsn=orders.dsn, prepare=lambda: None, on_batch=take, on_lost=lambda: None, on_round=lambda: None,
        watched=lambda table: False,
        poll_seconds=LONG, heartbeat_seconds=15.0, timeout_seconds=20.0, max_batch_events=1000,
    )  # fmt: skip
    listening = threading.Event()
    listener = Listener(ears, Pulse(lambda status, error: listening.set() if status == "listening" else None))
    listener.start()
    assert listening.wait(LONG)
    yield arrived
    listener.stop()


def test_many_writers_by_chance(orders: Database, arrivals: dict[str, float]) -> None:
    """Round after round the listener is woken up, falls asleep while transactions of before are open, and hears
    nothing but them: in the end of a round nobody else wakes it up."""
    print(f"FAULTS_SEED={SEED}")
    writers = [Writer(orders, number, SEED) for number in range(8)]
    committed: dict[str, float] = {}
    with ThreadPoolExecutor(len(writers)) as pool:
        for _ in range(20):
            waking = pool.submit(writers[0].burst)
            list(pool.map(Writer.transaction, writers[1:]))
            waking.result()
            committed.update({tx: at for writer in writers for tx, at in writer.committed.items()})
            until(lambda: arrivals.keys() >= committed.keys(), 3 * LONG)
    delays = sorted(arrivals[tx] - at for tx, at in committed.items())
    print(f"{len(delays)} commits; p50 {delays[len(delays) // 2] * 1000:.1f} ms, max {delays[-1] * 1000:.1f} ms")
    assert len(delays) > 100
    assert delays[-1] < SOON, SEED
