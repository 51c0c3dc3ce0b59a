"""Behind a real pgbouncer: in transaction mode served by polling, and named; in session mode as without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pgevents_push.listener import Connection
from pgevents_push.listener.arming import LOCK
from tests.fixtures.patience import wait_until
from tests.fixtures.pooler import pgbouncer
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop

# What a session keeps: nothing of ours may be found in one that others use too.
LEFT_BEHIND = """
SELECT current_setting('enable_seqscan'), current_setting('statement_timeout'), current_setting('jit'),
       (SELECT count(*) FROM pg_listening_channels()), current_setting('TimeZone')
"""
LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND (classid::bigint << 32 | objid::bigint) = %s"


@pytest.fixture
def pooled(database: Database) -> Iterator[Database]:
    # A time zone of its own, so that a setting which does not reach the reader shows in the events' times.
    database.execute(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Tokyo'")
    with pgbouncer(database, "transaction") as through:
        yield through


def started(shop: Shop) -> Shop:
    shop.create_all()
    shop.register()
    shop.events.start(shop.app)
    return shop


def everybody(pooled: Database, sql: str) -> list[Any]:
    """Ask each of the pool's sessions: transactions that are open at the same time have one each."""
    connections = [pooled.connect(autocommit=False) for _ in range(5)]
    found = []
    for connection in connections:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            found.append(cursor.fetchone())
    for connection in connections:
        connection.rollback()
        connection.close()
    return found


def test_transaction_mode_is_named_and_served_by_polling(
    make_shop: MakeShop, pooled: Database, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    shop = make_shop(at=pooled)
    times: list[Any] = []
    shop.events.on_change(shop.Order)(shop.hear())
    shop.events.on_insert(shop.Order)(lambda event: times.append(event.at))
    started(shop)
    wait_until(lambda: "a pooler in transaction mode" in caplog.text)  # a moment behind the status
    assert shop.runtime.status == "deaf"
    assert "PGEVENTS_DATABASE_URL" in caplog.text
    answer = shop.app.test_client().get("/pgevents/health")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "deaf")
    wait_until(lambda: shop.runtime.report()["captured"] == 1)
    # More statements than sessions, from beside the pooler and through it.
    for number in range(1, 21):
        (database if number % 2 else pooled).execute("INSERT INTO orders (id) VALUES (%s)", number)
    shop.until(*(f"insert {number}" for number in range(1, 21)))
    [(now,)] = database.execute("SELECT clock_timestamp()")
    assert all(abs((now - at).total_seconds()) < 60 for at in times)


def test_nothing_of_ours_stays_in_the_sessions_of_others(
    make_shop: MakeShop, pooled: Database, database: Database
) -> None:
    shop = make_shop(at=pooled)
    shop.events.on_change(shop.Order)(shop.hear())
    started(shop)
    wait_until(lambda: shop.runtime.report().get("captured") == 1)
    wait_until(lambda: shop.runtime.status == "deaf")
    # Nothing is written: pgbouncer would end an idle session to which something comes, and hide what it holds.
    shop.runtime.stop()
    clean = database.connect().cursor()
    clean.execute(LEFT_BEHIND)
    assert set(everybody(pooled, LEFT_BEHIND)) == {clean.fetchone()}
    assert database.execute(LOCKS, LOCK) == [(0,)]


def test_polling_that_is_wanted_is_well(make_shop: MakeShop, pooled: Database) -> None:
    shop = make_shop(at=pooled, PGEVENTS_WAKEUP="poll")
    shop.events.on_change(shop.Order)(shop.hear())
    started(shop)
    wait_until(lambda: shop.runtime.status == "listening")
    pooled.execute("INSERT INTO orders (id) VALUES (1)")
    shop.until("insert 1")


@pytest.mark.parametrize("pool_size", [1, 5])
def test_transaction_mode_is_recognised_at_once(database: Database, pool_size: int) -> None:
    with pgbouncer(database, "transaction", pool_size) as through:
        for _ in range(5):
            connection = Connection(through.dsn, 5)
            assert connection.is_shared()
            connection.close()


def test_a_busy_pool_is_recognised_too(pooled: Database) -> None:
    """Others take and give back sessions between our statements."""
    others = [pooled.connect(autocommit=False) for _ in range(3)]
    connection = Connection(pooled.dsn, 5)
    for other in others:
        other.cursor().execute("SELECT 1")
    assert connection.is_shared()
    connection.close()


@pytest.mark.parametrize("pool_size", [1, 5])
def test_session_mode_is_not_taken_for_it(database: Database, pool_size: int) -> None:
    """With one session in the pool the second connection has to wait: that proves it as well."""
    with pgbouncer(database, "session", pool_size) as through:
        connection = Connection(through.dsn, 1)
        assert (connection.pooled, connection.is_shared()) == (True, False)
        connection.close()


def test_session_mode_rings(make_shop: MakeShop, database: Database) -> None:
    with pgbouncer(database, "session", 10) as through:
        shop = make_shop(at=through)
        shop.events.on_change(shop.Order)(shop.hear())
        started(shop)
        wait_until(lambda: shop.runtime.status == "listening")
        wait_until(lambda: database.execute(LOCKS, LOCK) == [(1,)])  # it sleeps
        database.execute("INSERT INTO orders (id) VALUES (1)")
        shop.until("insert 1")
        shop.close()


def test_a_direct_connection_asks_nobody(database: Database) -> None:
    connection = Connection(database.dsn, 5)
    assert (connection.pooled, connection.is_shared()) == (False, False)
    assert connection.execute("SELECT current_setting('enable_seqscan')") == [("off",)]
    connection.close()
