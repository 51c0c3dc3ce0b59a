"""What capture costs writers: one-row UPDATEs by pgbench, in one run, fsync on, against no trigger and a plain NOTIFY.

Nobody listens; a listener sleeps and is rung by every transaction (the worst case: a real one wakes up); a listener
reads everything, on the same cores.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg2.extensions

from demo.postgres import Postgres, find_binaries
from pgevents_push.capture import Installer
from pgevents_push.event import TableName
from pgevents_push.listener.arming import LOCK
from tests.bench.printing import Row
from tests.fixtures.postgres import Database, Server
from tests.fixtures.servers import ROOT, python

ROUNDS = 3
SECONDS = 3
ROWS = 10_000
CLIENTS = (1, 8, 32)
GOALS = {("nobody listens", 8): ">= 0.65", ("nobody listens", 32): ">= 0.55", ("one reads", 8): ">= 0.45"}
_SCHEMA = "CREATE TABLE {0} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, note text NOT NULL DEFAULT 'a plain note')"
_FILL = "INSERT INTO {0} SELECT generate_series(1, {1})"
_SCRIPT = "\\set id random(1, {1})\nUPDATE {0} SET n = n + 1 WHERE id = :id;\n"
_NOTIFY = """
CREATE FUNCTION notify() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('plain', NEW.id::text); RETURN NULL; END $$;
CREATE TRIGGER plain AFTER UPDATE ON notifying FOR EACH ROW EXECUTE FUNCTION notify()
"""


def measure() -> list[Row]:
    pgbench = _pgbench()
    if pgbench is None:
        return [Row("writer throughput kept", "no pgbench on this machine")]
    with Postgres(settings={"fsync": "on", "full_page_writes": "on"}) as postgres:
        server = Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres)
        database = Database(server, "postgres")
        try:
            _fill(database)
            return [row for clients in CLIENTS for row in _compare(pgbench, database, clients)]
        finally:
            database.close()


def _fill(database: Database) -> None:
    for table in ("bare", "notifying", "captured"):
        database.execute(_SCHEMA.format(table))
        database.execute(_FILL.format(table, ROWS))
    database.execute(_NOTIFY)
    installer = Installer(database.dsn, max_row_bytes=1_000_000, lock_timeout_seconds=2.0, connect_timeout_seconds=10.0)
    installer.install([TableName("public", "captured")])


def _pgbench() -> str | None:
    """Find pgbench, which not every package of PostgreSQL brings."""
    places = [find_binaries(), *Path("/usr/lib/postgresql").glob("*/bin")]
    return next((str(p / "pgbench") for p in places if (p / "pgbench").exists()), shutil.which("pgbench"))


@contextmanager
def _nobody(database: Database) -> Iterator[None]:
    yield


@contextmanager
def _sleeping(database: Database) -> Iterator[None]:
    """A listener that sleeps for ever."""
    connection = database.server.connect(database.name)
    connection.cursor().execute("LISTEN pgevents; SELECT pg_advisory_lock_shared(%s)", [LOCK])
    try:
        yield
    finally:
        connection.close()


@contextmanager
def _reading(database: Database) -> Iterator[None]:
    command = python("-m", "tests.bench.reading", psycopg2.extensions.make_dsn(**database.dsn))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == "listening"
            yield
        finally:
            process.kill()


# What is measured: the table that is written, and who is there.
_Presence = Callable[[Database], AbstractContextManager[None]]
_CASES: dict[str, tuple[str, _Presence]] = {
    "no trigger": ("bare", _nobody),
    "a NOTIFY of ids": ("notifying", _nobody),
    "nobody listens": ("captured", _nobody),
    "one sleeps": ("captured", _sleeping),
    "one reads": ("captured", _reading),
}


def _compare(pgbench: str, database: Database, clients: int) -> list[Row]:
    rates: dict[str, list[float]] = {case: [] for case in _CASES}
    for number in range(ROUNDS):
        # In turns, and the other way round each time: what grows or warms up meanwhile counts for all.
        for case in list(_CASES)[:: 1 if number % 2 else -1]:
            table, presence = _CASES[case]
            database.execute("TRUNCATE pgevents.log")
            database.execute("CHECKPOINT")
            with presence(database):
                rates[case].append(_run(pgbench, database, table, clients))
    medians = {case: statistics.median(each) for case, each in rates.items()}
    bare = medians.pop("no trigger")
    return [_row(case, clients, median, bare) for case, median in medians.items()]


def _row(case: str, clients: int, rate: float, bare: float) -> Row:
    return Row(
        f"writer throughput kept, {clients} client{'s' if clients > 1 else ''}, {case}",
        f"{rate / bare:.2f}",
        GOALS.get((case, clients), ""),
        f"{rate:.0f} of {bare:.0f} one-row UPDATEs a second, fsync on; medians of {ROUNDS} x {SECONDS} s",
    )


def _run(pgbench: str, database: Database, table: str, clients: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(_SCRIPT.format(table, ROWS))
        script.flush()
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(2, clients)), "-T", str(SECONDS)]
        place = ["-h", database.dsn["host"], "-U", database.dsn["user"]]
        command = [pgbench, *options, *place, "-f", script.name, database.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"tps = ([0-9.]+) \(without initial", output)
    assert found, output
    return float(found.group(1))
