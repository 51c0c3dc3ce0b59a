"""Failover: a standby is promoted. Its log goes on in another timeline, and says so from the first moment."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres import Postgres, find_binaries
from pgevents_push.listener import Connection, read_position
from tests.fixtures.capture import install
from tests.fixtures.postgres import Database, Server
from tests.fixtures.servers import free_port


def own(postgres: Postgres) -> Database:
    return Database(
        Server({"host": "127.0.0.1", "port": str(postgres.port), "user": "postgres", "dbname": "postgres"}), "postgres"
    )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    """A primary with a captured table, and a standby of it."""
    binaries = find_binaries(15)
    with Postgres(binaries, port=free_port(), settings={"wal_level": "replica"}) as server:
        primary = own(server)
        primary.execute("CREATE TABLE t (id int PRIMARY KEY)")
        install(primary, "t")
        source, copy = f"host=127.0.0.1 port={server.port} user=postgres", tmp_path / "copy"
        subprocess.run([binaries / "pg_basebackup", "-D", copy, "-d", source, "-R", "-c", "fast"], check=True, cwd="/")
        if server._user:
            for path in (tmp_path, copy, *copy.rglob("*")):
                shutil.chown(path, server._user["user"], server._user["group"])
        with Postgres(binaries, data_dir=copy, port=free_port()) as other:
            standby = own(other)
            yield primary, standby
            standby.close()
        primary.close()


def epoch(database: Database) -> str:
    connection = Connection(database.dsn, 10)
    try:
        return read_position(connection.execute).epoch
    finally:
        connection.close()


def test_a_promoted_standby_is_another_log_at_once(pair: tuple[Database, Database]) -> None:
    """The control file says so after the next checkpoint only, which takes minutes where much is to be written. Who
    comes back before that would be told nothing of changes that never reached the standby."""
    primary, standby = pair
    before = epoch(primary)
    primary.execute("CREATE TABLE much AS SELECT n, repeat('x', 500) FROM generate_series(1, 40000) AS n")
    [(reached,)] = primary.execute("SELECT pg_current_wal_lsn()::text")
    while standby.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", reached) == [(True,)]:
        pass
    assert standby.execute("SELECT pg_promote()") == [(True,)]
    assert standby.execute("SELECT timeline_id FROM pg_control_checkpoint()") == [(1,)], "that checkpoint was quick"
    promoted = epoch(standby)
    assert promoted != before
    standby.execute("CHECKPOINT")
    assert standby.execute("SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
    assert epoch(standby) == promoted
