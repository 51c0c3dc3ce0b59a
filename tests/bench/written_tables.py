"""The tables that are written: bare, with a NOTIFY of ids, with the least that a log costs, and captured by us, row by
row, statement by statement, and by keys alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from demo.postgres import Postgres
from pgevents_push.capture import Installer, Mode
from pgevents_push.event import TableName
from tests.bench.pinning import free, pin_app, pin_rest
from tests.fixtures.postgres import Database, Server

ROWS = 10_000
# fsync as in earnest, and no checkpoint while it runs: each page that is written first after one costs more.
SETTINGS = {"fsync": "on", "full_page_writes": "on", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
_SCHEMA = "CREATE TABLE {0} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, note text NOT NULL DEFAULT 'a plain note')"
_MODES: dict[str, Mode] = {"captured": "row", "by_statement": "statement", "by_key": "key"}
_TRIGGERS = """
CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('plain', NEW.id::text); RETURN NULL; END $$;
CREATE TRIGGER plain AFTER INSERT OR UPDATE ON notifying FOR EACH ROW EXECUTE FUNCTION notify();
CREATE TABLE least (id bigint GENERATED ALWAYS AS IDENTITY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(), what text);
CREATE INDEX ON least (xid, id);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.least (what) VALUES ('a row was written'); RETURN NULL; END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE ON logging FOR EACH ROW EXECUTE FUNCTION log()
"""


@contextmanager
def written_tables() -> Iterator[Database]:
    """Start a server whose database has these tables."""
    with Postgres(settings=SETTINGS) as postgres:
        server = Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres)
        database = Database(server, "postgres")
        try:
            _fill(database)
            yield database
        finally:
            database.close()


@contextmanager
def apart(database: Database) -> Iterator[None]:
    """Bind the server to one core, and this process and what it starts to the other."""
    server = [process.pid for process in _processes(database)]
    pin_app(server)
    pin_rest([os.getpid()])
    try:
        yield
    finally:
        for pid in (*server, os.getpid()):
            free(pid)


def cpu_seconds(database: Database) -> float:
    """Return how much the server has computed, with the backends that have ended. It tells what capture costs also
    on a machine that is busy with something else."""
    postmaster, *others = _processes(database)
    seconds = 0.0
    for process in others:
        with suppress(psutil.NoSuchProcess):  # ended meanwhile, so it is in the postmaster's sum, which comes last
            seconds += sum(process.cpu_times()[:2])
    return float(seconds + sum(postmaster.cpu_times()[:4]))


def _processes(database: Database) -> list[psutil.Process]:
    postgres = database.server.postgres
    assert postgres is not None
    process = psutil.Process(postgres.pid)
    return [process, *process.children()]


def empty_logs(database: Database) -> None:
    """Begin a measurement as every other begins."""
    database.execute("TRUNCATE pgevents.log, least")


def _fill(database: Database) -> None:
    for table in ("bare", "notifying", "logging", *_MODES):
        database.execute(_SCHEMA.format(table))
        database.execute(f"INSERT INTO {table} SELECT generate_series(1, {ROWS})")
    database.execute(_TRIGGERS)
    installer = Installer(
        database.dsn,
        max_row_bytes=1_000_000,
        lock_timeout_seconds=2.0,
        connect_timeout_seconds=10.0,
        modes=lambda table: _MODES[table.name],
    )
    installer.install([TableName("public", table) for table in _MODES])
