"""What capture costs writers: one-row UPDATEs by pgbench, in one run, fsync on, against no trigger, a plain NOTIFY and
the least that a log costs: a trigger of one INSERT that says nothing.

Nobody listens; a listener sleeps and is rung by every transaction (the worst case: a real one wakes up); a listener
reads everything. Server, pgbench and listener share the machine; then the server has one core and the others another.
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

from demo.postgres import find_binaries
from pgevents_push.listener.arming import LOCK
from tests.bench.printing import Row
from tests.bench.written_tables import ROWS, apart, cpu_seconds, empty_logs, written_tables
from tests.fixtures.postgres import Database
from tests.fixtures.servers import ROOT, python

ROUNDS = 5
SECONDS = 3
CLIENTS = (1, 8, 32)
GOALS = {
    "8 clients, nobody listens": ">= 0.65",
    "32 clients, nobody listens": ">= 0.55",
    "8 clients, one reads": ">= 0.45",
    "32 clients, one reads": ">= 0.45",
}
_SCRIPT = "\\set id random(1, {1})\nUPDATE {0} SET n = n + 1 WHERE id = :id;\n"


def measure() -> list[Row]:
    pgbench = _pgbench()
    if pgbench is None:
        return [Row("writer throughput kept", "no pgbench on this machine")]
    with written_tables() as database:
        shared = [row for clients in CLIENTS for row in _compare(pgbench, database, clients, list(_CASES))]
        with apart(database):
            pinned = [row for clients in CLIENTS for row in _compare(pgbench, database, clients, _PINNED, ", pinned")]
        return [*shared, *pinned]


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
    "the least log": ("logging", _nobody),
    "nobody listens": ("captured", _nobody),
    'nobody listens, capture="statement"': ("by_statement", _nobody),
    'nobody listens, capture="key"': ("by_key", _nobody),
    "one sleeps": ("captured", _sleeping),
    "one reads": ("captured", _reading),
}


# Fewer, to be done in time.
_PINNED = ["no trigger", "the least log", "nobody listens", "one reads"]


def _compare(pgbench: str, database: Database, clients: int, cases: list[str], how: str = "") -> list[Row]:
    rates: dict[str, list[float]] = {case: [] for case in cases}
    costs: dict[str, list[float]] = {case: [] for case in cases}
    for number in range(ROUNDS):
        # In turns, and the other way round each time: what grows or warms up meanwhile counts for all.
        for case in cases[:: 1 if number % 2 else -1]:
            table, presence = _CASES[case]
            empty_logs(database)
            with presence(database):
                before = cpu_seconds(database)
                rate = _run(pgbench, database, table, clients)
            rates[case].append(rate)
            costs[case].append((cpu_seconds(database) - before) / rate / SECONDS)
    bare = rates.pop("no trigger")
    return [
        _row(f"{clients} client{'s' if clients > 1 else ''}{how}, {case}", each, bare, costs[case], costs["no trigger"])
        for case, each in rates.items()
    ]


def _row(what: str, rates: list[float], bare: list[float], costs: list[float], bare_costs: list[float]) -> Row:
    kept = [rate / without for rate, without in zip(rates, bare, strict=True)]
    cost, bare_cost = (statistics.median(each) * 1e6 for each in (costs, bare_costs))
    return Row(
        f"writer throughput kept, {what}",
        f"{statistics.median(kept):.2f} ({min(kept):.2f} to {max(kept):.2f})",
        GOALS.get(what, ""),
        f"{statistics.median(rates):.0f} of {statistics.median(bare):.0f} one-row UPDATEs a second, fsync on;"
        f" {cost:.0f}, not {bare_cost:.0f} us of the server's CPU each;"
        f" medians (and extremes) of {ROUNDS} x {SECONDS} s",
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
