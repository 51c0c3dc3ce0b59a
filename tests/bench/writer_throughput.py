"""What capture costs writers: one-row UPDATEs with and without the trigger, by pgbench, in one run, fsync on."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from demo.postgres import Postgres, find_binaries
from pgevents_push.capture import Installer
from pgevents_push.event import TableName
from tests.bench.printing import Row
from tests.fixtures.postgres import Database, Server

ROUNDS = 3
SECONDS = 3
ROWS = 10_000
CLIENTS = (1, 8)
_SCHEMA = "CREATE TABLE {0} (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, note text NOT NULL DEFAULT 'a plain note')"
_FILL = "INSERT INTO {0} SELECT generate_series(1, {1})"
_SCRIPT = "\\set id random(1, {1})\nUPDATE {0} SET n = n + 1 WHERE id = :id;\n"


def measure() -> list[Row]:
    pgbench = _pgbench()
    if pgbench is None:
        return [Row("writer throughput kept", "no pgbench on this machine")]
    with Postgres(settings={"fsync": "on", "full_page_writes": "on"}) as postgres:
        server = Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres)
        database = Database(server, "postgres")
        try:
            for table in ("bare", "captured"):
                database.execute(_SCHEMA.format(table))
                database.execute(_FILL.format(table, ROWS))
            installer = Installer(
                database.dsn, max_row_bytes=1_000_000, lock_timeout_seconds=2.0, connect_timeout_seconds=10.0
            )
            installer.install([TableName("public", "captured")])
            return [_compare(pgbench, database, clients) for clients in CLIENTS]
        finally:
            database.close()


def _pgbench() -> str | None:
    """Find pgbench, which not every package of PostgreSQL brings."""
    places = [find_binaries(), *Path("/usr/lib/postgresql").glob("*/bin")]
    return next((str(p / "pgbench") for p in places if (p / "pgbench").exists()), shutil.which("pgbench"))


def _compare(pgbench: str, database: Database, clients: int) -> Row:
    rates: dict[str, list[float]] = {"bare": [], "captured": []}
    for number in range(ROUNDS):
        # In turns, and the other way round each time: what grows or warms up meanwhile counts for both.
        for table in ("bare", "captured")[:: 1 if number % 2 else -1]:
            database.execute("TRUNCATE pgevents.log")
            database.execute("CHECKPOINT")
            rates[table].append(_run(pgbench, database, table, clients))
    bare, captured = (statistics.median(rates[table]) for table in ("bare", "captured"))
    return Row(
        f"writer throughput kept, {clients} client{'s' if clients > 1 else ''}",
        f"{captured / bare:.2f}",
        ">= 0.65" if clients == 8 else "",
        f"{captured:.0f} of {bare:.0f} one-row UPDATEs a second, nobody reading; medians of {ROUNDS} x {SECONDS} s",
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
