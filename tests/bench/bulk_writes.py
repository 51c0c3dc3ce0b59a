"""What capture costs bulk writes: 100,000 rows in one statement, as a multiple of the time without a trigger."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable

from tests.bench.printing import Row
from tests.bench.written_tables import apart, empty_logs, written_tables
from tests.fixtures.postgres import Database

ROUNDS = 5
ROWS = 100_000
GOALS = {("INSERT ... SELECT", "captured"): "<= 4.5", ("INSERT ... SELECT", "by_statement"): "<= 3.5"}
_CASES = {
    "bare": "no trigger",
    "notifying": "a NOTIFY of ids",
    "logging": "the least log",
    "captured": "captured",
    "by_statement": 'capture="statement"',
    "by_key": 'capture="key"',
}


def measure() -> list[Row]:
    with written_tables() as database, apart(database):
        return _compare(database)


def _insert(database: Database, table: str) -> None:
    database.execute(f"INSERT INTO {table} SELECT generate_series(1, {ROWS})")


def _update(database: Database, table: str) -> None:
    database.execute(f"UPDATE {table} SET n = n + 1")


def _copy(database: Database, table: str) -> None:
    lines = io.StringIO("".join(f"{number}\n" for number in range(1, ROWS + 1)))
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {table} (id) FROM STDIN", lines)


# In this order: each finds what the one before it left.
_STATEMENTS: dict[str, Callable[[Database, str], None]] = {
    "COPY": _copy,
    "INSERT ... SELECT": _insert,
    "UPDATE": _update,
}


def _compare(database: Database) -> list[Row]:
    seconds: dict[tuple[str, str], list[float]] = {(what, table): [] for what in _STATEMENTS for table in _CASES}
    for number in range(ROUNDS):
        for table in list(_CASES)[:: 1 if number % 2 else -1]:
            for what, run in _STATEMENTS.items():
                if what != "UPDATE":
                    database.execute(f"TRUNCATE {table}")
                empty_logs(database)
                started = time.perf_counter()
                run(database, table)
                seconds[what, table].append(time.perf_counter() - started)
    return [_row(what, table, seconds) for what, table in seconds if table != "bare"]


def _row(what: str, table: str, seconds: dict[tuple[str, str], list[float]]) -> Row:
    taken, bare = seconds[what, table], seconds[what, "bare"]
    times = [each / without for each, without in zip(taken, bare, strict=True)]
    return Row(
        f"{what} of {ROWS:,} rows, {_CASES[table]}",
        f"x {statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})",
        GOALS.get((what, table), ""),
        f"{statistics.median(taken) * 1000:.0f} ms against {statistics.median(bare) * 1000:.0f} ms, fsync on;"
        f" medians (and extremes) of {ROUNDS}",
    )
