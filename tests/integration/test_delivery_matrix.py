"""The same app under each server: every handler and every client gets each change of any program exactly once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.faults.checker import PERFECT, TRUTH, Change, change_of, check
from tests.fixtures import programs
from tests.fixtures.clients import start_clients
from tests.fixtures.postgres import Database
from tests.fixtures.servers import SERVERS, WORKERS, ServerName, Serving, serving

# Of both kinds of clients. Fifty of each take a core for four seconds: under one of the servers that is enough.
EACH: dict[ServerName, int] = {name: 50 if name == "gevent" else 10 for name in SERVERS}
CHANGES = 1000
TABLES = ["orders", "Order Line"]
HANDLERS = ("insert", "update", "delete", "change")
TYPES = {"i": "insert", "u": "update", "d": "delete"}


@pytest.fixture
def filled(database: Database) -> Database:
    database.execute(programs.SCHEMA)
    database.execute(programs.SHARED_ROWS)
    return database


def truth_of(database: Database) -> list[tuple[Change, str, str]]:
    """Every change that the log holds, with its type and table."""
    rows = database.execute(TRUTH)
    return [(Change(id_, tx, row, int(version), last), TYPES[type_], table)
            for id_, tx, row, version, last, type_, table in rows]  # fmt: skip


@pytest.mark.parametrize("name", SERVERS)
def test_each_change_arrives_everywhere_exactly_once(name: ServerName, filled: Database) -> None:
    with serving(name, filled.url) as server, start_clients(server.ports, TABLES, EACH[name], EACH[name]) as clients:
        assert all(clients.are_ready)
        programs.run_all(filled.url, filled.psql_command(), CHANGES // len(programs.PROGRAMS))
        filled.execute("INSERT INTO orders (id) VALUES (999999)")  # committed after all others: it comes last
        truth = truth_of(filled)
        assert len(truth) == CHANGES + 1
        last = max(change.id for change, _, _ in truth)
        reports = clients.until(str(last))
        assert len(reports) == 2 * EACH[name]
        check_clients(truth, reports, server)
        check_handlers(truth, server)


def check_clients(truth: list[tuple[Change, str, str]], reports: list[dict[str, Any]], server: Serving) -> None:
    wanted = [change for change, _, _ in truth]
    for report in reports:
        seen = [change_of(data, data["table"], (data["row"] or data["old"])["version"]) for data in report["changes"]]
        assert check(wanted, seen) == PERFECT, (report["kind"], report["process"], report["others"], report["ended"])
        assert not report["ended"]
    assert {report["process"] for report in reports if report["kind"] == "sse"} == server.pids, (
        "a worker without clients"
    )


def check_handlers(truth: list[tuple[Change, str, str]], server: Serving) -> None:
    wanted = {
        f"{kind} {table}": [c for c, type_, its in truth if its == table and kind in (type_, "change")]
        for kind in HANDLERS for table in TABLES
    }  # fmt: skip
    total = WORKERS * sum(map(len, wanted.values()))
    server.until(lambda: sum(map(len, server.calls().values())) >= total, 60, lambda: "handlers missed changes")
    calls = server.calls()
    assert set(calls) == {(pid, handler) for pid in server.pids for handler, some in wanted.items() if some}
    for (pid, handler), lines in calls.items():
        seen = [change_of(line, line["table"], line["version"]) for line in lines]
        assert check(wanted[handler], seen) == PERFECT, (pid, handler, json.dumps(lines[-1]))
