"""What all security tests share: the house that they break into, and the watch that looks for canaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from tests.fixtures.house import House
from tests.fixtures.postgres import Database
from tests.fixtures.programs import SCHEMA
from tests.fixtures.roles import role
from tests.fixtures.servers import ServerName, Serving, serving
from tests.fixtures.watch import Watch
from tests.fixtures.web import Site
from tests.fixtures.ws_client import StrictClient

_searched = {"bytes": 0, "lines": 0}


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    """What every security test is watched by: no canary in any byte or line."""
    with Watch() as watch:
        yield watch
    _searched["bytes"] += len(watch.bytes)
    _searched["lines"] += len(watch.lines)
    assert watch.leaks() == []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _searched["bytes"]:
        text = "searched for canaries: {bytes} bytes on the wire, {lines} lines of logs; a test that saw one has failed"
        terminalreporter.write_line(text.format(**_searched))


@pytest.fixture
def serve_site() -> Iterator[Callable[[Flask], Site]]:
    with ExitStack() as stack:

        def serve(app: Flask) -> Site:
            site = Site(app)
            stack.callback(site.close)
            return site

        yield serve


@pytest.fixture
def house(database: Database, watch: Watch, serve_site: Callable[[Flask], Site]) -> Iterator[House]:
    """A house with the table `docs`: id and title may be shown, secret may not. Nothing is exposed yet."""
    with role(database, "app") as name:
        database.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, secret text)")
        house = House(database, name, watch, serve_site)
        try:
            yield house
        finally:
            house.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., StrictClient]]:
    """Return what opens a WebSocket; all are closed after the test."""
    with ExitStack() as stack:

        def open_(site: Site, path: str = "/pgevents/ws", headers: str = "") -> StrictClient:
            return stack.enter_context(StrictClient(site.port, path, headers=headers))

        yield open_


DOORS_SCHEMA = """
CREATE TABLE docs (id bigint PRIMARY KEY, title text, secret text);
CREATE TABLE banned (name text PRIMARY KEY);
CREATE TABLE tenants (id int PRIMARY KEY, tenant int, title text, secret text)
"""


@pytest.fixture
def serve_doors(database: Database, watch: Watch) -> Iterator[Callable[..., Serving]]:
    """Return what serves tests/fixtures/doors_app.py, by default with two gunicorn workers."""
    database.execute(SCHEMA)
    database.execute(DOORS_SCHEMA)
    with ExitStack() as stack:

        def serve(name: ServerName = "gevent", **settings: Any) -> Serving:
            started = serving(name, database.url, app="tests.fixtures.doors_app:app", heartbeat_seconds=0.5, **settings)
            server = stack.enter_context(started)
            stack.callback(lambda: watch.lines.extend(server.printed().splitlines()))
            return server

        yield serve
