"""Product: the whole way, from a writer through PostgreSQL and one gunicorn worker, which has a core of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from demo.postgres import Postgres
from tests.bench.pinning import free, pin_app, pin_rest
from tests.fixtures.postgres import Database, Server
from tests.fixtures.servers import Serving, serving

TARGET = "/pgevents/stream?table=ticks"
SCHEMA = """
CREATE TABLE ticks (id bigserial PRIMARY KEY, stamp text, body text);
CREATE TABLE others (id bigserial PRIMARY KEY, stamp text, body text);
CREATE TABLE owned (id bigserial PRIMARY KEY, stamp text, body text, owner_id int DEFAULT 7);
CREATE TABLE shared (id bigserial PRIMARY KEY, stamp text, body text, audience int DEFAULT 1000000)
"""
SETTINGS = {"max_connections_per_address": 0, "max_connections": 19_000, "max_stream_seconds": 0}
_INSERT = "INSERT INTO {0} (stamp, body) SELECT %s, %s FROM generate_series(1, %s)"


class Product:
    """The running product."""

    def __init__(self, database: Database, serving: Serving) -> None:
        self.database, self.serving = database, serving
        self.port = serving.ports[0]
        [pid] = serving.pids
        self.worker = psutil.Process(pid)

    def write(self, rows: int = 1, table: str = "ticks", size: int = 100) -> None:
        """Commit so many rows as one transaction; each says when that began."""
        stamp = f"^{time.time_ns() // 1000 % 10**12}^"  # see load.c
        self.database.execute(_INSERT.format(table), stamp, "x" * size, rows)

    @property
    def cpu(self) -> float:
        """The CPU time of the worker."""
        times = self.worker.cpu_times()
        return times.user + times.system

    @property
    def rss(self) -> int:
        return int(self.worker.memory_info().rss)

    @property
    def fds(self) -> int:
        return self.worker.num_fds()

    def settle(self, connections: int = 0, seconds: float = 20) -> float:
        """Wait until the worker has so many streams; return how long that took."""
        began = time.monotonic()
        self.serving.until(lambda: self.connections == connections, seconds, lambda: self.connections)
        return time.monotonic() - began

    @property
    def connections(self) -> int:
        return int(self.serving.report(self.port)["connections"])


@contextmanager
def product(fsync: bool = False, kind: Any = "gevent", **settings: Any) -> Iterator[Product]:
    """Start everything. Without fsync PostgreSQL, which shares the second core with the clients, costs least."""
    durable = {"fsync": "on", "full_page_writes": "on"} if fsync else {"fsync": "off"}
    with Postgres(settings=durable) as postgres:
        server = Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres)
        database = Database(server, "postgres")
        database.execute(SCHEMA)
        pin_rest([postgres.pid])
        options = ["--worker-connections", "20000", "--backlog", "4096"]
        try:
            with serving(
                kind, database.url, workers=1, options=options, app="tests.bench.app:app", **SETTINGS, **settings
            ) as app:
                pin_rest([os.getpid()])
                pin_app(app.pids)
                yield Product(database, app)
        finally:
            database.close()
            free(os.getpid())
