"""Stage: a PostgreSQL server of our own, a proxy before it, the app behind that; and what nemeses may lay hands on."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from demo.postgres import Postgres, find_binaries
from pgevents_push.extension.replay import READERS
from tests.faults.soak_writers import SCHEMA
from tests.fixtures.proxy import Proxy
from tests.fixtures.servers import WORKERS, Serving, free_port, serving

# Heartbeats and deadlines are short, so that a frozen server and a black hole are noticed within a short round.
SETTINGS: dict[str, Any] = {
    "heartbeat_seconds": 1.0,
    "connect_timeout_seconds": 2.0,
    "retention_rows": 10**8,
    "retry_seconds": 0.2,
}
POSTGRES = {"max_connections": "100", "max_prepared_transactions": "20", "deadlock_timeout": "50ms"}
# A worker keeps the connections on which clients that came back were answered: each a socket and gevent's pipe. And
# gevent's pool, in which triggers are installed, keeps up to 10 threads.
KEPT = {"connections": WORKERS * READERS, "fds": 3 * READERS, "system threads": 10}


@dataclass
class Stage:
    """:param connect: returns a new connection to the database, not through the proxy, in autocommit mode."""

    postgres: Postgres
    proxy: Proxy
    serving: Serving
    connect: Callable[[], Any]

    @property
    def port(self) -> int:
        """The app's."""
        return self.serving.ports[0]

    def execute(self, sql: str) -> list[Any]:
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.serving.processes[0].pid).children()]

    def deploy(self) -> None:
        """Replace all workers by new ones, which remember nothing, and wait until these listen."""
        before = set(self.workers())
        os.kill(self.serving.processes[0].pid, signal.SIGHUP)

        def replaced() -> bool:
            words = self.serving.statuses()
            now = self.workers()
            return before.isdisjoint(now) and [words.get(pid) for pid in now] == ["listening"] * WORKERS

        self.serving.until(replaced, 60, self.serving.statuses)

    def cpu_seconds(self) -> dict[str, float]:
        """Who has worked how much so far; "here" are the clients, the writers and the proxy."""
        groups = {"here": [psutil.Process()], "workers": list(map(psutil.Process, self.workers()))}
        groups["PostgreSQL"] = psutil.Process(self.postgres.pid).children()
        return {name: round(sum(_cpu_seconds(process) for process in group), 1) for name, group in groups.items()}

    def ask(self, path: str) -> tuple[str, Any]:
        """Ask one of the workers; return which one answered, and its JSON."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.headers["X-Process"], json.load(answer)

    def handle_one(self) -> None:
        """Let each worker handle a change: a handler's greenlet begins with its first one."""
        self.execute("INSERT INTO probe VALUES (0) RETURNING id")
        workers, handled = {str(pid) for pid in self.workers()}, set[str]()
        ends = time.monotonic() + 60
        while not handled >= workers:
            assert time.monotonic() < ends, f"only {handled} of {workers} have handled a change"
            pid, found = self.ask("/handled")
            handled |= {pid} if found["count"] else set()

    def alive(self) -> dict[str, int]:
        """What is alive, the most of any worker, and how many connections PostgreSQL has from the app."""
        most, asked = Counter[str](), set[str]()
        workers = {str(pid) for pid in self.workers()}
        for _ in range(200):
            pid, found = self.ask("/left")
            asked.add(pid)
            most |= Counter(found)
            if asked >= workers:
                break
        [(connections,)] = self.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return {**most, "connections": connections}

    def grown(self, before: dict[str, int]) -> list[str]:
        """What there is more of than `before`, and more than may be kept."""
        now = self.alive()
        return [f"{name}: {before[name]} -> {now[name]}" for name in now
                if now[name] > before[name] + KEPT.get(name, 0)]  # fmt: skip

    def remains(self) -> list[str]:
        """Say what each worker has open, and where the greenlets of one of them wait."""
        pid, stacks = self.ask("/stacks")
        return [*map(_open_files, self.workers()), f"{pid}: {len(stacks)} greenlets", *map("".join, stacks)]


def _cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _open_files(pid: int) -> str:
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    connections = [f"{c.fd}: {c.laddr} {c.raddr} {c.status}" for c in psutil.Process(pid).net_connections("all")]
    return f"{pid}: {sorted(map(str, links))} {connections}"


@contextmanager
def staged(wakeup: str = "notify", version: int | None = None, **settings: Any) -> Iterator[Stage]:
    """Set it up with tests/fixtures/soak_app.py under gunicorn, two gevent workers; ended after the block.

    :param version: PostgreSQL's major version; default: the newest here.
    :param settings: as SETTINGS, which they go before.
    """
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgevents-soak-", ignore_cleanup_errors=True))
        Path(place).chmod(0o755)
        postgres = stack.enter_context(Postgres(find_binaries(version), Path(place, "data"), free_port(), POSTGRES))
        assert postgres.port

        def connect() -> Any:
            connection = psycopg2.connect(host="127.0.0.1", port=postgres.port, user="postgres", dbname="postgres")
            connection.autocommit = True
            return connection

        with connect().cursor() as cursor:
            cursor.execute(SCHEMA)
        proxy = stack.enter_context(Proxy(postgres.port))
        url = f"postgresql+psycopg2://postgres@127.0.0.1:{proxy.port}/postgres"
        app = "tests.fixtures.soak_app:app"
        served = serving("gevent", url, app=app, **{**SETTINGS, "wakeup": wakeup, **settings})
        stage = Stage(postgres, proxy, stack.enter_context(served), connect)
        stage.handle_one()
        yield stage
