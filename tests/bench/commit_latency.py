"""Commit to handler, and commit to bytes at an SSE client: one quiet gunicorn gevent worker, one event at a time.

The clock starts when COMMIT has returned to the writer and stops in the first line of the handler, or when recv
has returned in the client; all three are processes of this host. PostgreSQL rings before COMMIT returns, so a
part of the way is already behind when the clock starts.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time

import psycopg2.extensions

from demo.postgres import Postgres
from tests.bench.pinning import POSSIBLE, free, pin_app, pin_rest
from tests.bench.printing import Row, latency_rows
from tests.fixtures import programs
from tests.fixtures.clients import SseReader
from tests.fixtures.postgres import Database, Server
from tests.fixtures.servers import ROOT, python, serving

COUNT = 1500


def measure() -> list[Row]:
    with Postgres(settings={"fsync": "on", "full_page_writes": "on"}) as postgres:
        server = Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres)
        database = Database(server, "postgres")
        database.execute(programs.SCHEMA)
        pin_rest([postgres.pid])
        try:
            return _measure(database)
        finally:
            database.close()
            free(os.getpid())


def _measure(database: Database) -> list[Row]:
    with serving("gevent", database.url, workers=1) as server:
        pin_rest([os.getpid()])  # with its children, of which the workers then move
        pin_app(server.pids)
        arrivals: dict[int, float] = {}
        reader = SseReader(server.ports[0], ["orders"])
        thread = threading.Thread(target=_receive, args=[reader, arrivals], daemon=True)
        thread.start()
        committed = _write(database)
        last = max(committed)
        server.until(lambda: last in arrivals, 10, lambda: "the client got too little")
        handler = "insert orders"
        server.until(lambda: last in _handled(server.calls(), handler), 10, lambda: "the handler got too little")
        handled = _handled(server.calls(), handler)
    how = f"{COUNT} events, one each 3-8 ms, fsync on{', app on a core of its own' if POSSIBLE else ''}"
    to_handler = [handled[number] - at for number, at in committed.items()]
    to_client = [arrivals[number] - at for number, at in committed.items()]
    return [
        *latency_rows("commit to handler", to_handler, "<= 1.5 ms", how),
        *latency_rows("commit to SSE bytes", to_client, "<= 2 ms", how),
    ]


def _handled(calls: dict[tuple[int, str], list[dict[str, object]]], handler: str) -> dict[int, float]:
    lines = [line for (_, name), found in calls.items() if name == handler for line in found]
    return {line["pk"]["id"]: line["at"] for line in lines}  # type: ignore[index, misc]


def _write(database: Database) -> dict[int, float]:
    """Run the writer to its end; return when each of its commits returned."""
    command = python("-m", "tests.bench.quiet_writer", psycopg2.extensions.make_dsn(**database.dsn), str(COUNT))
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {int(number): float(at) for number, at in map(str.split, output.splitlines())}


def _receive(reader: SseReader, arrivals: dict[int, float]) -> None:
    reader.sock.settimeout(None)
    while reader.read():
        now = time.time()
        while reader.changes:
            arrivals[reader.changes.pop()["pk"]["id"]] = now
