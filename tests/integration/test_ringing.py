"""When the trigger rings: once for each transaction, only while somebody sleeps; and what that does to writers."""

from __future__ import annotations

import select
import threading
from typing import Any

import psycopg2
import pytest

from pgevents_push.listener.arming import LOCK
from pgevents_push.listener.statements import statement
from tests.fixtures.capture import install, logged
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database

PREPARE = "BEGIN; INSERT INTO t VALUES (1, 0); PREPARE TRANSACTION 'p'"


@pytest.fixture
def orders(database: Database) -> Database:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(database, "t")
    return database


class Ear:
    """A listener of this test's own; asleep or awake as it is told."""

    def __init__(self, database: Database) -> None:
        self.connection = database.connect()
        self.execute("LISTEN pgevents")
        self.fall_asleep()

    def execute(self, sql: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone() if cursor.description else None

    def fall_asleep(self) -> None:
        assert self.execute(f"SELECT pg_try_advisory_lock_shared({LOCK})") == (True,)

    def wake_up(self) -> None:
        assert self.execute(f"SELECT pg_advisory_unlock_shared({LOCK})") == (True,)

    def rings(self) -> int:
        """Take what rang until now: a mark of its own comes behind it."""
        self.execute("NOTIFY pgevents, 'mark'")
        while not any(notify.payload == "mark" for notify in self.connection.notifies):
            assert select.select([self.connection], [], [], 10)[0], "not even the mark came"
            self.connection.poll()
        taken = [(notify.channel, notify.payload) for notify in self.connection.notifies]
        self.connection.notifies.clear()
        assert taken.pop() == ("pgevents", "mark")
        assert all(each == ("pgevents", "") for each in taken)
        return len(taken)


@pytest.fixture
def ear(orders: Database) -> Ear:
    return Ear(orders)


def locks(database: Database) -> int:
    """How many sessions hold or want the lock of the bell."""
    return int(database.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0])


def test_once_for_each_transaction(orders: Database, ear: Ear) -> None:
    orders.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 50) g")
    assert ear.rings() == 1
    orders.execute("BEGIN; UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET n = 1 WHERE id = 2; COMMIT")
    assert ear.rings() == 1


def test_not_for_somebody_who_is_awake(orders: Database, ear: Ear) -> None:
    ear.wake_up()
    orders.execute("INSERT INTO t VALUES (1, 0)")
    assert ear.rings() == 0
    ear.fall_asleep()
    orders.execute("INSERT INTO t VALUES (2, 0)")
    assert ear.rings() == 1
    assert locks(orders) == 1  # the writer's probe is gone


def test_again_after_a_rollback_to_a_savepoint(orders: Database, ear: Ear) -> None:
    ear.wake_up()
    writer = orders.connect(autocommit=False).cursor()
    writer.execute("SAVEPOINT a; INSERT INTO t VALUES (1, 0)")
    ear.fall_asleep()
    writer.execute("ROLLBACK TO a; INSERT INTO t VALUES (2, 0)")
    writer.connection.commit()
    assert ear.rings() == 1
    orders.execute(
        "BEGIN; SAVEPOINT a; INSERT INTO t VALUES (3, 0); ROLLBACK TO a; INSERT INTO t VALUES (4, 0); COMMIT"
    )
    assert ear.rings() == 1
    orders.execute("BEGIN; SAVEPOINT a; INSERT INTO t VALUES (5, 0); ROLLBACK TO a; COMMIT")
    assert ear.rings() == 0


def test_a_setting_that_a_session_left_behind_silences_nothing(orders: Database, ear: Ear) -> None:
    orders.execute("SELECT set_config('pgevents.rang', pg_current_xact_id()::text, false)")
    orders.execute("INSERT INTO t VALUES (1, 0)")
    assert ear.rings() == 1


def test_somebody_in_the_way_makes_it_ring(orders: Database, ear: Ear) -> None:
    """Another session holds the lock alone: nobody can tell whether a listener sleeps, so it is rung."""
    ear.wake_up()
    orders.connect().cursor().execute("SELECT pg_advisory_lock(%s)", [LOCK])
    orders.execute("INSERT INTO t VALUES (1, 0)")
    assert ear.rings() == 1


def test_a_prepared_transaction(orders: Database, ear: Ear) -> None:
    with pytest.raises(psycopg2.errors.FeatureNotSupported, match="NOTIFY"):
        orders.execute(PREPARE)
    ear.wake_up()
    orders.execute(PREPARE)
    assert locks(orders) == 0
    orders.execute("INSERT INTO t VALUES (2, 0)")  # waits for nobody
    orders.execute("COMMIT PREPARED 'p'")
    assert sorted(event.pk["id"] for event in logged(orders)) == [1, 2]


def test_a_cancelled_writer_leaves_no_lock(orders: Database, ear: Ear) -> None:
    ear.wake_up()
    orders.execute("BEGIN; INSERT INTO t VALUES (1, 0); ROLLBACK")
    writer = orders.connect()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        writer.cursor().execute(
            "SET statement_timeout = 20; INSERT INTO t SELECT g, 0 FROM generate_series(1, 1000000) g"
        )
    assert locks(orders) == 0


def test_a_queue_of_those_who_ring_is_seen(orders: Database) -> None:
    """Whoever NOTIFYs commits alone, so of four that do nothing else somebody waits nearly always."""
    queue = statement("queue.sql")
    assert orders.execute(queue) == [(False,)]
    done = threading.Event()

    def ring(connection: Any) -> None:
        with connection.cursor() as cursor:
            while not done.is_set():
                cursor.execute("NOTIFY somebody")

    threads = [threading.Thread(target=ring, args=[orders.connect()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: orders.execute(queue) == [(True,)], timeout=20)
    finally:
        done.set()
        for thread in threads:
            thread.join()
