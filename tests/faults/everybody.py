"""Everybody: what every handler of every worker and every client got of `orders`, against the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.postgres import Postgres
from tests.faults import writers
from tests.faults.checker import PERFECT, TRUTH, Change, change_of, check
from tests.fixtures import programs
from tests.fixtures.postgres import Database, Server
from tests.fixtures.servers import Serving, free_port

CLIENTS = 3
CHANGE_ORDERS = "change orders"
KILL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'pgevents_push' AND datname = current_database()
"""


def fill(database: Database) -> Database:
    database.execute(programs.SCHEMA)
    database.execute(f"INSERT INTO orders SELECT generate_series(1, {writers.ROWS})")
    return database


@contextmanager
def own_database(place: Path) -> Iterator[Database]:
    """A database on a server of its own, which a test may restart: it comes back at the same port."""
    with Postgres(data_dir=place / "data", port=free_port()) as postgres:
        dsn = {"host": "127.0.0.1", "port": str(postgres.port), "user": "postgres", "dbname": "postgres"}
        database = Database(Server(dsn, postgres), "postgres")
        yield fill(database)
        database.close()


def query(database: Database, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask on a new connection: the fixture's own did not survive the server."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def check_everybody(database: Database, server: Serving, reports: list[dict[str, Any]]) -> int:
    """Every handler and client got each change of `orders`; return how many there were."""
    rows = query(database, TRUTH)
    truth = [Change(id_, tx, key, int(version), last) for id_, tx, key, version, last, *_ in rows]

    def handled() -> dict[int, list[Change]]:
        calls = server.calls()
        return {
            pid: [change_of(line, "orders", line["version"]) for line in calls[pid, CHANGE_ORDERS]]
            for pid in server.pids
        }

    server.until(lambda: all(len(seen) >= len(truth) for seen in handled().values()), 60, lambda: "handlers missed")
    for pid, seen in handled().items():
        assert check(truth, seen) == PERFECT, (pid, server.output())
    for report in reports:
        seen = [change_of(data, "orders", (data["row"] or data["old"])["version"]) for data in report["changes"]]
        assert check(truth, seen) == PERFECT, (report["kind"], report["others"], report["ended"])
        assert set(report["others"]) <= {"ready", "sync"}, report["others"]
    return len(truth)


def last_insert(database: Database, number: int) -> str:
    """Commit one more change, behind all others; return the event's id."""
    query(database, "INSERT INTO orders (id) VALUES (%s)", number)
    [(event_id,)] = query(database, "SELECT max(id) FROM pgevents.log")
    return str(event_id)
