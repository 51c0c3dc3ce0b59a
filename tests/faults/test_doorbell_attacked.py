"""The doorbell under attack and where it cannot ring: floods, poolers, PGEVENTS_WAKEUP="poll"."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions
import pytest

from pgevents_push.listener import Batch, Connection, Ears, Listener, Pulse
from pgevents_push.listener.doorbell import BURST
from tests.fixtures.capture import install
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role

FLOOD = """
import sys, time, psycopg2
connection = psycopg2.connect(sys.argv[1])
connection.autocommit = True
cursor = connection.cursor()
began, sent = time.monotonic(), 0
while True:
    sent += 2  # in many transactions: each wakes the listener up
    cursor.execute("SELECT pg_notify('pgevents', 'forged'), pg_notify('pgevents', '')")
    time.sleep(max(0, began + sent / 10_000 - time.monotonic()))  # 10,000 a second
"""
# A busy machine may take it; a change that nobody rang for comes after LONG.
SOON, LONG = 10.0, 30.0
PREPARED = "BEGIN; INSERT INTO t VALUES (1, 0); PREPARE TRANSACTION 'p'"


class Listening:
    """A running listener, what it handed on, and its words."""

    def __init__(self, database: Database, wakeup: Any, poll_seconds: float) -> None:
        self.batches: list[Batch] = []
        self.words: list[str] = []
        self.failures: list[str] = []
        ears = Ears(
            dsn=database.dsn, prepare=lambda: None, on_batch=self.batches.append, on_lost=lambda: None,
            on_round=lambda: None, poll_seconds=poll_seconds, heartbeat_seconds=0.3, timeout_seconds=20.0,
            watched=lambda table: False,
            max_batch_events=1000, wakeup=wakeup,
        )  # fmt: skip
        self._listener = Listener(ears, Pulse(self._changed))

    def _changed(self, status: str, error: str | None) -> None:
        self.words.append(status)

    def keys(self) -> list[int]:
        return [event.pk["id"] for batch in list(self.batches) for event in batch.events]

    def __enter__(self) -> Listening:
        self._listener.start()
        until(lambda: self.words)
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.stop()


def until(condition: Callable[[], object], seconds: float = LONG) -> float:
    """Wait; return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it does not come"
        time.sleep(0.001)
    return time.monotonic() - began


@pytest.fixture
def orders(database: Database) -> Database:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(database, "t")
    return database


def sleeping(database: Database) -> bool:
    """Whether a listener holds the bell's lock."""
    rows = database.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted")
    return bool(rows)


@contextmanager
def flood(database: Database, user: str) -> Iterator[None]:
    dsn = psycopg2.extensions.make_dsn(**{**database.dsn, "user": user})
    process = subprocess.Popen([sys.executable, "-c", FLOOD, dsn])
    try:
        until(
            lambda: database.execute(
                "SELECT 1 FROM pg_stat_activity WHERE usename = %s AND query LIKE '%%pg_notify%%'", user
            )
        )
        yield
    finally:
        process.kill()
        process.wait()


def test_a_flood_of_forged_rings_costs_a_bounded_number_of_reads(orders: Database) -> None:
    with role(orders, "nobody") as user, Listening(orders, "notify", LONG) as listening, flood(orders, user):
        counted = threading.Event()
        before, began = len(listening.batches), time.monotonic()
        counted.wait(2)
        reads, seconds = len(listening.batches) - before, time.monotonic() - began
        print(f"{reads / seconds:.0f} reads a second")
        # 200, and those that come with falling asleep again and again
        assert 0 < reads <= BURST + 250 * seconds
        assert listening.keys() == []
        orders.execute("INSERT INTO t VALUES (1, 0)")
        assert until(lambda: listening.keys() == [1]) < SOON


def test_polling_never_rings_and_lets_transactions_be_prepared(orders: Database) -> None:
    ear = orders.connect()
    ear.cursor().execute("LISTEN pgevents")
    with Listening(orders, "poll", LONG) as listening:
        assert listening.words == ["listening"]
        orders.execute(PREPARED)
        assert listening.keys() == []
        orders.execute("COMMIT PREPARED 'p'")
        assert until(lambda: listening.keys() == [1]) < SOON
        orders.execute("INSERT INTO t VALUES (2, 0)")
        assert until(lambda: listening.keys() == [1, 2]) < SOON
        assert not sleeping(orders)
    ear.poll()
    assert ear.notifies == []


def test_a_sleeping_listener_sees_a_prepared_transaction_of_before_at_once(orders: Database) -> None:
    orders.execute(PREPARED)
    with Listening(orders, "notify", LONG) as listening:
        until(lambda: sleeping(orders))
        orders.execute("COMMIT PREPARED 'p'")
        assert until(lambda: listening.keys() == [1]) < SOON


@pytest.mark.parametrize("said", [(), ("pgevents",)], ids=["forgets LISTEN", "swallows the rings"])
def test_deaf_listeners_poll(orders: Database, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...]) -> None:
    """A transaction pooler: LISTEN and lock are of a session that is not ours. It either says so, or it happens to
    ask the right session, and only the rings are missing."""
    execute = Connection.execute

    def through_a_pooler(self: Connection, statement: str, parameters: Any = None) -> Any:
        if statement.startswith("LISTEN"):
            return []
        if "pg_listening_channels" in statement:
            return [(channel,) for channel in said]
        return execute(self, statement, parameters)

    monkeypatch.setattr(Connection, "execute", through_a_pooler)
    with Listening(orders, "notify", 1.5) as listening:
        number = 0
        while listening.words[-1] != "deaf":  # a ring that comes while it is awake is not one that it missed
            number += 1
            assert number < 20
            orders.execute("INSERT INTO t VALUES (%s, 0)", number)
            until(lambda n=number: len(listening.keys()) == n)  # type: ignore[misc]
            until(lambda: sleeping(orders) or listening.words[-1] == "deaf")
        taken = 0.0
        for later in range(number + 1, number + 5):
            orders.execute("INSERT INTO t VALUES (%s, 0)", later)
            taken += until(lambda n=later: len(listening.keys()) == n)  # type: ignore[misc]
        assert taken < 4, "they are read each 1.5 s, and not each quarter"
        assert not sleeping(orders)
        assert listening.words.count("deaf") == 1


def test_stopping_a_sleeping_listener_takes_no_time(orders: Database) -> None:
    writer = orders.connect(autocommit=False)
    writer.cursor().execute("INSERT INTO t VALUES (1, 0)")  # it has somebody to wait for
    with Listening(orders, "notify", LONG):
        until(lambda: sleeping(orders))
        began = time.monotonic()
    assert time.monotonic() - began < 4, "`stop` gives up after 5 s"
    until(lambda: not sleeping(orders))
