"""A dump that holds our schema too, restored: its log is another one, and what it says of xids means nothing here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psycopg2.extensions
import pytest

from pgevents_push.event import TableName
from pgevents_push.listener import Connection, read_position, read_since
from tests.fixtures.capture import install, installer
from tests.fixtures.postgres import Database, fresh_database
from tests.fixtures.ring import kept, now, pruned, ring, slot, write_old

__all__ = ["ring"]

# Of a cluster that has seen more than this one ever will in a test.
STRANGE = 2**40 + 7
T = TableName("public", "t")


@pytest.fixture
def source(database: Database) -> Database:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    database.execute("INSERT INTO t VALUES (1)")
    return database


@pytest.fixture
def other(database: Database) -> Iterator[Database]:
    with fresh_database(database.server) as other:
        yield other


def epoch(database: Database) -> str:
    connection = Connection(database.dsn, 5)
    try:
        return read_position(connection.execute).epoch
    finally:
        connection.close()


def dump(database: Database, *options: str) -> str:
    place = psycopg2.extensions.make_dsn(**database.dsn)
    return subprocess.check_output([database.server.tool("pg_dump"), *options, "-d", place], text=True)


def restore(database: Database, script: str) -> None:
    subprocess.run([*database.psql_command(), "-q", "-v", "ON_ERROR_STOP=1"], input=script, text=True, check=True)


def test_a_dump_restored_beside_its_source_is_another_log(source: Database, other: Database) -> None:
    """Same cluster, same timeline, same name of the installation: a position of one is none of the other."""
    restore(other, dump(source))
    assert installer(other).status([T]).complete
    assert epoch(other) != epoch(source)


def test_a_dump_restored_over_its_source_is_another_log(source: Database) -> None:
    """What was committed since the dump is gone: whoever knows it has to be told."""
    before, script = epoch(source), dump(source, "--clean", "--if-exists")
    source.execute("INSERT INTO t VALUES (2)")
    restore(source, script)
    assert source.execute("SELECT id FROM t") == [(1,)]
    assert epoch(source) != before


def test_a_copy_of_the_files_of_a_database_is_another_log(source: Database, other: Database) -> None:
    source.close()
    source.server.execute(f"DROP DATABASE {other.name}")
    source.server.execute(f"CREATE DATABASE {other.name} TEMPLATE {source.name}")
    assert epoch(other) != epoch(source)


def test_a_restart_of_everything_is_the_same_log(source: Database) -> None:
    before = epoch(source)
    source.execute("VACUUM (FREEZE, FULL) pgevents.installation")
    assert epoch(source) == before


def test_strange_rows_hide_no_loss(ring: Database) -> None:
    """Their xids are yet to come here: taken for the greatest that was emptied, nothing of ours would ever be gone."""
    ring.execute(
        "INSERT INTO pgevents.log (xid, schema_name, table_name, type, pk, slot)"
        f" VALUES ('{STRANGE}', 'public', 't', 'i', '{{}}', {slot(ring, 4)})"
    )
    before = now(ring)
    write_old(ring, 4)
    assert [p.emptied for p in pruned(ring)] == [True]
    assert not kept(ring, before)


def test_a_strange_record_gives_way_to_ours(ring: Database) -> None:
    number = slot(ring, 4)
    ring.execute(
        f"INSERT INTO pgevents.emptied (slot, max_xid, snapshot) VALUES ({number}, '{STRANGE}', '{STRANGE}:{STRANGE}:')"
    )
    before = now(ring)
    write_old(ring, 4)
    assert [p.emptied for p in pruned(ring)] == [True]
    assert not kept(ring, before)
    write_old(ring, 4)
    after = now(ring)
    assert kept(ring, after)


def test_strange_rows_are_shown_to_nobody(ring: Database) -> None:
    connection = Connection(ring.dsn, 5)
    try:
        position = read_position(connection.execute)
        ring.execute(
            "INSERT INTO pgevents.log (xid, schema_name, table_name, type, pk)"
            f" VALUES ('{STRANGE}', 'public', 't', 'i', '{{}}')"
        )
        ring.execute("INSERT INTO t VALUES (1, 1)")
        events = [event for batch in read_since(connection.execute, position, 10) for event in batch.events]
        assert [event.pk for event in events] == [{"id": 1}]
        assert read_position(connection.execute).snapshot.xmax < STRANGE
    finally:
        connection.close()
