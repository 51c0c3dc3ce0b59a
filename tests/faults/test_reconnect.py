"""Reconnecting: the listener loses its backend, or the whole server, and nobody loses, doubles or swaps a change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import writers
from tests.faults.everybody import CLIENTS, KILL, check_everybody, fill, last_insert, own_database
from tests.fixtures.clients import SseReader, start_clients
from tests.fixtures.postgres import Database
from tests.fixtures.servers import WORKERS, Serving, serving

READY_TRIES = 1000


@pytest.fixture
def filled(database: Database) -> Database:
    return fill(database)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Database]:
    with own_database(tmp_path) as database:
        yield database


def test_backend_killed_under_load(filled: Database) -> None:
    load = writers.Load(seed=7, table="orders", writers=4, longest_seconds=0.1)
    with (
        serving("gevent", filled.url) as server,
        start_clients(server.ports, ["orders"], CLIENTS, CLIENTS) as clients,
    ):
        kills, ends = 0, time.monotonic() + 8
        with writers.writing(filled.connect, load):
            while time.monotonic() < ends:
                kills += filled.execute(KILL)[0][0]
                time.sleep(0.5)
        assert kills >= 3 * WORKERS
        reports = clients.until(last_insert(filled, 999_999))
        assert check_everybody(filled, server, reports) > 200
        words = [line["status"] for line in server.lines() if "status" in line]
        assert words.count("reconnecting") >= 2 * WORKERS


def test_server_restarted(own: Database) -> None:
    postgres = own.server.postgres
    assert postgres is not None
    with serving("gevent", own.url) as server, start_clients(server.ports, ["orders"], CLIENTS, CLIENTS) as clients:
        clients.until(last_insert(own, 1001))
        for number in range(1002, 1102):  # confirmed, but maybe not yet read, when the server dies
            own.execute("INSERT INTO orders (id) VALUES (%s)", number)
        postgres.stop("immediate")
        server.until(lambda: set(server.statuses().values()) == {"reconnecting"}, 60, server.statuses)
        postgres.start()
        reports = clients.until(last_insert(own, 1102))
        assert check_everybody(own, server, reports) == 102


def test_table_created_later_under_load(filled: Database) -> None:
    """The app names a table that does not exist; a psql makes it while other tables are written all the time."""
    with (
        serving("gevent", filled.url) as server,
        writers.writing(filled.connect, writers.Load(seed=8, table="orders", writers=1, longest_seconds=0.01)),
    ):
        filled.execute("CREATE TABLE late (id int PRIMARY KEY)")

        def captured() -> bool:
            filled.execute("INSERT INTO late SELECT coalesce(max(id), 0) + 1 FROM late")
            seen = {pid for pid, handler in server.calls() if handler == "change late"}
            return seen == server.pids

        server.until(captured, 60, lambda: "nobody captures the table")


def test_what_is_inserted_after_ready_arrives(filled: Database) -> None:
    with serving("gevent", filled.url) as server:
        for number in range(10_000, 10_000 + READY_TRIES):
            insert_when_ready(filled, server, number)


def insert_when_ready(database: Database, server: Serving, number: int) -> None:
    """Open a stream, insert as soon as it says ready, and wait for that change; the socket has a timeout."""
    reader = SseReader(server.ports[0], ["orders"])
    try:
        while not reader.is_ready:
            assert reader.read(), "the stream ended"
        database.execute("INSERT INTO orders (id) VALUES (%s)", number)
        while [change["pk"]["id"] for change in reader.changes[-1:]] != [number]:
            assert reader.read(), "the stream ended"
        # The other worker may be a moment ahead: then some before it come too, which this cursor had not seen.
        seen = [change["pk"]["id"] for change in reader.changes]
        assert seen == list(range(seen[0], number + 1))
    finally:
        reader.sock.close()
