"""Writers unharmed: capture adds no serialization failure and no deadlock, whatever else of ours goes on."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg2

from pgevents_push.errors import InstallError
from pgevents_push.event import TableName
from pgevents_push.listener import Connection, Ears, Listener, Pulse, prune
from tests.faults.probes import Threads, until
from tests.fixtures.capture import install, installer
from tests.fixtures.chance import SEED
from tests.fixtures.postgres import Database

SCHEDULES, OPEN, STEPS, ROWS = 120, 4, 24, 8
SECONDS = 5.0
WRITERS = 16


@contextmanager
def listening(database: Database) -> Iterator[Counter[str]]:
    """A listener that sleeps and wakes up, beside somebody who prunes and one who installs all the time."""
    heard, errors = Counter[str](), list[str]()

    def count(batch: Any) -> None:
        heard.update(event.table for event in batch.events)

    ears = Ears(
        dsn=database.dsn, prepare=lambda: None, on_batch=count, on_lost=lambda: heard.update(lost=1),
        on_round=lambda: None, watched=lambda table: False,
        poll_seconds=1.0, heartbeat_seconds=1.0, timeout_seconds=10.0, max_batch_events=1000,
    )  # fmt: skip
    words: list[str] = []
    listener = Listener(ears, Pulse(lambda status, error: words.append(status)))
    listener.start()
    assert until(lambda: words)
    yield heard
    listener.stop()
    assert not errors
    assert words == ["listening", "stopped"]


class Step(NamedTuple):
    """One step of one of the open transactions."""

    who: int
    sql: str


def schedule(chance: random.Random) -> list[Step]:
    """Transactions that overlap, step by step, in one fixed order; "{t}" is the table."""
    steps: list[Step] = []
    for _ in range(STEPS):
        row = chance.randint(1, ROWS)
        steps.append(
            Step(
                chance.randrange(OPEN),
                chance.choice(
                    (
                        f"SELECT sum(n) FROM {{t}} WHERE id BETWEEN {row} AND {row + 2}",
                        f"SELECT n FROM {{t}} WHERE id = {row}",
                        f"UPDATE {{t}} SET n = n + 1 WHERE id = {row}",
                        f"UPDATE {{t}} SET n = (SELECT sum(n) % 100 FROM {{t}}) WHERE id = {row}",
                        f"INSERT INTO {{t}} VALUES ({row + 100}, 0) ON CONFLICT DO NOTHING",
                        f"DELETE FROM {{t}} WHERE id = {row + 100}",
                        "COMMIT",
                    )
                ),
            )
        )
    return steps


def play(connections: list[Any], steps: list[Step], table: str) -> list[str | None]:
    """Run a schedule on one table; return how each step ended: nobody runs beside another, so that is no chance."""
    ended: list[str | None] = []
    for step in [*steps, *(Step(who, "COMMIT") for who in range(OPEN))]:
        connection = connections[step.who]
        try:
            if step.sql == "COMMIT":
                connection.commit()
            else:
                with connection.cursor() as cursor:
                    cursor.execute(step.sql.replace("{t}", table))
            ended.append(None)
        except psycopg2.Error as error:
            connection.rollback()
            ended.append(error.pgcode)
    return ended


def serializable(database: Database) -> list[Any]:
    connections = [database.connect(autocommit=False, options="-c lock_timeout=20") for _ in range(OPEN)]
    for connection in connections:
        connection.set_session(isolation_level="SERIALIZABLE")
    return connections


def test_no_serialization_failure_is_added(database: Database) -> None:
    """The same schedules of serializable transactions, with and without our triggers: the same ones fail.

    What else decides which fail is kept alike: plans, by no ANALYZE, and the pages of heap and index, by new ones.
    """
    print(f"FAULTS_SEED={SEED}")
    for table in ("captured", "bare"):
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, n int) WITH (autovacuum_enabled = false)")
    install(database, "captured")
    connections, chance, failed = serializable(database), random.Random(SEED), Counter[str | None]()
    with listening(database) as heard:
        for number in range(SCHEDULES):
            steps = schedule(chance)
            for table in ("captured", "bare"):
                database.execute(f"TRUNCATE {table}")
                database.execute(f"INSERT INTO {table} SELECT generate_series(1, {ROWS}), 0")
            bare, captured = (play(connections, steps, table) for table in ("bare", "captured"))
            assert captured == bare, (number, SEED, steps)
            failed.update(captured)
        print(dict(failed))
        assert failed["40001"] > SCHEDULES / 10, "nothing conflicts here"
        assert until(lambda: heard["captured"] > SCHEDULES)


DEFERRED = """
CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, place int UNIQUE DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE child (id serial PRIMARY KEY, parent int NOT NULL REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
INSERT INTO parent SELECT n, 0, n FROM generate_series(1, 40) AS n
"""


class Writer:
    """Swaps places and makes children before their parents, which the constraints allow until they are asked for."""

    def __init__(self, database: Database, number: int) -> None:
        self.counts: Counter[str] = Counter()
        self._chance = random.Random(f"{SEED}/{number}")
        self._connection = database.connect(autocommit=False)
        self._new = 1000 + number * 100_000

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._transaction()
                self._connection.commit()
                self.counts["committed"] += 1
            except psycopg2.Error as error:
                self._connection.rollback()
                self.counts[str(error.pgcode)] += 1

    def _transaction(self) -> None:
        self._new += 1
        # In one order, so that no two writers wait for each other's rows.
        rows = sorted(self._chance.sample(range(1, 41), 3))
        with self._connection.cursor() as cursor:
            cursor.execute("INSERT INTO child (parent) VALUES (%s)", [self._new])
            for row in rows:
                cursor.execute("UPDATE parent SET n = n + 1, place = %s WHERE id = %s", [1000 + row, row])
            cursor.execute("INSERT INTO parent VALUES (%s)", [self._new])
            for row in rows:
                cursor.execute("UPDATE parent SET place = %s WHERE id = %s", [row, row])
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("DELETE FROM child WHERE parent = %s", [self._new])


def keep_pruning(database: Database, stop: threading.Event) -> None:
    connection = Connection(database.dsn, 10)
    while not stop.wait(0.05):
        prune(connection.execute)
    connection.close()


def keep_installing(database: Database, stop: threading.Event, counts: Counter[str]) -> None:
    ours = installer(database)
    while not stop.wait(0.2):
        try:
            ours.install([TableName("public", name) for name in ("parent", "child")], force=True)
            counts["installed"] += 1
        except InstallError:  # a table was always busy
            counts["busy"] += 1


def test_no_deadlock_of_our_making(database: Database) -> None:
    """Sixteen writers whose constraints are deferred, then asked for midway; while everything of ours goes on."""
    print(f"FAULTS_SEED={SEED}")
    database.execute(DEFERRED)
    install(database, "parent", "child")
    writers, errors, ours = [Writer(database, n) for n in range(WRITERS)], list[str](), Counter[str]()
    with listening(database) as heard:
        threads = Threads(errors)
        for writer in writers:
            threads.start(writer.run)
        threads.start(lambda stop: keep_pruning(database, stop))
        threads.start(lambda stop: keep_installing(database, stop, ours))
        time.sleep(SECONDS)
        threads.end()
        counts = sum((writer.counts for writer in writers), Counter[str]())
        print(dict(counts), dict(ours))
        assert not errors
        assert set(counts) == {"committed"}
        assert counts["committed"] > 200
        assert ours["installed"] > 0
        assert until(lambda: heard["child"] == 2 * counts["committed"])
        assert heard["parent"] == 7 * counts["committed"]
