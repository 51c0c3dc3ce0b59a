"""Stage: a PostgreSQL server of its own, the app with two workers, and a gateway between that and both browsers."""

from __future__ import annotations

import re
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from flask import Flask

from demo.models import db
from demo.postgres import Postgres
from tests.browser.both import Browser
from tests.browser.gateway import Gateway
from tests.browser.node import packages
from tests.fixtures.servers import ROOT, WORKERS, Serving, free_port, serving

APP = "tests.fixtures.recipes_app:app"
# Short, so that silence, a server that is away and a frozen one are noticed within a short round.
SETTINGS: dict[str, Any] = {
    "heartbeat_seconds": 1.0,
    "retry_seconds": 0.3,
    "connect_timeout_seconds": 3.0,
    "metrics": True,
    "inspector": True,
}
# Tables beside the demo's, for pages that follow many: t0, t1 …
TABLES = 12
OPEN = re.compile(r'^pgevents_connections\{.*kind="(?:sse|websocket)".*\} (\d+)$', re.M)


@dataclass
class Stage:
    """What tests and faults may lay hands on."""

    postgres: Postgres
    browsers: tuple[Browser, ...]
    _served: ExitStack
    gateway: Gateway = field(init=False)
    serving: Serving = field(init=False)

    def __post_init__(self) -> None:
        self.gateway = Gateway(0)
        self.start_server()

    @property
    def url(self) -> str:
        """The app's, as the browsers know it."""
        return f"http://127.0.0.1:{self.gateway.port}"

    @property
    def elsewhere(self) -> str:
        """The same by another name: for browsers another origin, which the app allows."""
        return f"http://localhost:{self.gateway.port}"

    def kill_server(self) -> None:
        """Kill all of its processes at once."""
        self._served.close()

    def start_server(self) -> None:
        settings = {**SETTINGS, "allowed_origins": [self.elsewhere]}
        self.serving = self._served.enter_context(serving("gevent", _url(self.postgres), app=APP, **settings))
        self.gateway.turn_to(self.serving.ports[0])

    def connect(self) -> Any:
        """Return a new connection to the database, in autocommit mode."""
        place = f"host=127.0.0.1 port={self.postgres.port} user=postgres dbname=postgres connect_timeout=2"
        connection = psycopg2.connect(place)
        connection.autocommit = True
        return connection

    def execute(self, sql: str) -> list[Any]:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def connections(self) -> int:
        """How many streams and sockets the app's workers have open."""
        counts: dict[str, int] = {}
        for _ in range(200):  # whoever is free answers: each of them at some time
            with urllib.request.urlopen(f"http://127.0.0.1:{self.serving.ports[0]}/pgevents/metrics") as answer:
                found = OPEN.findall(answer.read().decode())
                counts[answer.headers["X-Process"]] = sum(map(int, found))
            if len(counts) == WORKERS:
                return sum(counts.values())
        raise AssertionError(f"only {len(counts)} of {WORKERS} workers answer")


@contextmanager
def staged(browsers: tuple[Browser, ...]) -> Iterator[Stage]:
    """Set it up; it is gone after the block."""
    packages(ROOT / "demo" / "recipes")
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgevents-stage-", ignore_cleanup_errors=True))
        Path(place).chmod(0o755)  # the server may run as somebody else
        postgres = stack.enter_context(Postgres(data_dir=Path(place, "data"), port=free_port()))
        _make_tables(postgres)
        stage = Stage(postgres, browsers, stack.enter_context(ExitStack()))
        stack.enter_context(stage.gateway)
        yield stage


def _url(postgres: Postgres) -> str:
    """By its port: the directory of its socket is another one after a restart."""
    return f"postgresql+psycopg2://postgres@127.0.0.1:{postgres.port}/postgres"


def _make_tables(postgres: Postgres) -> None:
    flask = Flask("tables")
    flask.config["SQLALCHEMY_DATABASE_URI"] = _url(postgres)
    db.init_app(flask)
    with flask.app_context():
        db.create_all()
        with db.engine.begin() as connection:
            for n in range(TABLES):
                connection.exec_driver_sql(f"CREATE TABLE t{n} (id integer PRIMARY KEY, word text NOT NULL DEFAULT '')")
        db.engine.dispose()
