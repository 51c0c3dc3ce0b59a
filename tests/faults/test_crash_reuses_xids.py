"""After a crash PostgreSQL hands out again the xids whose WAL was not yet written: those of transactions that were
rolled back. A position that counted one of them as ended would miss what the next owner of the number writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres import Postgres, find_binaries
from pgevents_push.cursor import Cursor
from pgevents_push.event import ChangeEvent
from pgevents_push.listener import Connection, read_position, read_since
from tests.fixtures.capture import install
from tests.fixtures.postgres import Database, Server

TRIES = 8


@pytest.fixture(params=[None, 15], ids=["newest", "15"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A server of its own that writes WAL late, and a captured table."""
    settings = {"wal_writer_delay": "10s"}
    with Postgres(find_binaries(request.param), data_dir=tmp_path / "data", settings=settings) as postgres:
        yield after_start(postgres)


def after_start(postgres: Postgres) -> Database:
    dsn = {"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}
    database = Database(Server(dsn, postgres), "postgres")
    database.execute("CREATE TABLE IF NOT EXISTS t (id int)")
    install(database, "t")
    return database


def seen(database: Database, cursor: Cursor) -> tuple[list[ChangeEvent], Cursor]:
    """Read on; return what came, and the position after it."""
    connection = Connection(database.dsn, 10)
    found: list[ChangeEvent] = []
    for batch in read_since(connection.execute, cursor, 100):
        found += batch.events
        cursor = batch.cursor
    connection.close()
    return found, Cursor.parse(str(cursor))


def here(database: Database) -> Cursor:
    connection = Connection(database.dsn, 10)
    cursor = read_position(connection.execute)
    connection.close()
    return cursor


def rolled_back(database: Database) -> int:
    """Write and roll back; return the transaction's number."""
    connection = database.connect(autocommit=False)
    cursor = connection.cursor()
    cursor.execute("INSERT INTO t VALUES (0) RETURNING pg_current_xact_id()::text")
    number = int(cursor.fetchone()[0])
    connection.rollback()
    return number


def crash(database: Database) -> Database:
    postgres = database.server.postgres
    assert postgres is not None
    database.close()
    postgres.stop("immediate")
    return after_start(postgres.start())


def before_crash(database: Database, how: str) -> tuple[Cursor, int, int]:
    """Commit three changes and roll one back; return a position that was taken behind it, how many of the three
    come after that position, and the number of the transaction that was rolled back."""
    start = here(database)
    database.execute("INSERT INTO t SELECT generate_series(1, 3)")
    number = rolled_back(database)
    if how == "a new position":
        return here(database), 0, number
    found, end = seen(database, start)
    return (Cursor.parse(found[0].cursor), 2, number) if how == "the middle" else (end, 0, number)


@pytest.mark.parametrize("how", ["a position read up to", "a new position", "the middle"])
def test_what_a_reused_xid_writes_is_seen(own: Database, how: str) -> None:
    for _ in range(TRIES):
        cursor, missing, number = before_crash(own, how)
        own = crash(own)
        [(reused,)] = own.execute("INSERT INTO t VALUES (9) RETURNING pg_current_xact_id()::text")
        if int(reused) <= number:
            break
    else:
        pytest.fail(f"no xid was used again in {TRIES} crashes: nothing was tested")
    found = seen(own, cursor)[0]
    assert len(found) == missing + 1
    assert found[-1].tx == reused
