"""Drain: a worker that is told to stop ends its streams with `bye`, spreads their return, and is gone soon after."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.fixtures import programs
from tests.fixtures.clients import RunningClients, SseReader, start_clients
from tests.fixtures.postgres import Database
from tests.fixtures.servers import ServerName, Serving, serving

pytestmark = pytest.mark.alone

# The streams have ended, and the worker's process is gone. Measured on two cores: 0.1 to 0.4 s, and 0.5 to 2 s,
# of which up to 1 s is gunicorn's own; without hanging up on kept-alive connections the first is 2.1 s.
ENDED_SECONDS = 2.0
GONE_SECONDS = 15.0
# PGEVENTS_RETRY_SECONDS is 2, ± 50 %.
SHORTEST, LONGEST = 1000, 3000
SPREAD = 0.8

CASES: list[tuple[ServerName, int, list[str]]] = [
    ("gevent", 500, ["--worker-connections", "1200"]),
    ("gthread", 100, []),
]


@pytest.fixture
def filled(database: Database) -> Database:
    database.execute(programs.SCHEMA)
    return database


def drain(server: Serving, clients: RunningClients, stop: Callable[[], None], ws: int) -> None:
    """Stop the one worker, and look at how each client was told."""
    assert all(clients.are_ready)
    [old] = [psutil.Process(pid) for pid in server.pids]
    began = time.monotonic()
    stop()
    reports = clients.until_ended()
    seconds = time.monotonic() - began
    _check([report for report in reports if report["kind"] == "sse"])
    assert [report["ended"] for report in reports if report["kind"] == "ws"] == ["closed 1012"] * ws
    assert seconds < ENDED_SECONDS, server.output()
    old.wait(GONE_SECONDS)


def _check(reports: list[dict[str, Any]]) -> None:
    """Each stream ended with `bye` and not by a cut; nobody comes back in step with the others."""
    for report in reports:
        assert report["others"][-1] == "bye", report
        assert report["bye"]["reason"] == "shutdown"
        assert report["ended"] == "closed", report
    retries = sorted(report["bye"]["retry"] for report in reports)
    assert retries[0] >= SHORTEST
    assert retries[-1] <= LONGEST
    assert retries[-1] - retries[0] > SPREAD * (LONGEST - SHORTEST), retries
    middle = sum(SHORTEST + 500 <= retry <= LONGEST - 500 for retry in retries)
    assert 0.25 < middle / len(retries) < 0.75  # spread over all of it, not heaped at the ends


@pytest.mark.parametrize(("name", "count", "options"), CASES)
def test_sigterm(filled: Database, name: ServerName, count: int, options: list[str]) -> None:
    with (
        serving(name, filled.url, workers=1, options=options) as server,
        start_clients(server.ports, ["orders"], count, 5) as clients,
    ):
        master = server.processes[0]
        drain(server, clients, lambda: os.kill(master.pid, signal.SIGTERM), 5)
        assert master.wait(GONE_SECONDS) == 0, server.output()


@pytest.mark.parametrize(("name", "count", "options"), CASES)
def test_reload(filled: Database, name: ServerName, count: int, options: list[str]) -> None:
    """HUP: a new worker takes over, and those who come back are served by it."""
    with serving(name, filled.url, workers=1, options=options) as server:
        with start_clients(server.ports, ["orders"], count, 5) as clients:
            drain(server, clients, lambda: os.kill(server.processes[0].pid, signal.SIGHUP), 5)
        _is_served_by_another(server)


@pytest.mark.parametrize(("name", "count", "options"), CASES)
def test_max_requests(filled: Database, name: ServerName, count: int, options: list[str]) -> None:
    """Streams count as requests: the last request that the worker takes ends them all."""
    spare = 50  # for `serving`, which asks some times whether the worker listens
    options = [*options, "--max-requests", str(count + spare)]
    with serving(name, filled.url, workers=1, options=options) as server:
        with start_clients(server.ports, ["orders"], count, 0) as clients:
            drain(server, clients, lambda: _use_up(server, spare), 0)
        _is_served_by_another(server)


def _use_up(server: Serving, most: int) -> None:
    for _ in range(most):
        server.health(server.ports[0])
        if "Autorestarting worker" in server.output():
            return
    raise AssertionError(server.output())


def _is_served_by_another(server: Serving) -> None:
    def another() -> bool:
        try:
            pid, word = server.health(server.ports[0])
        except OSError:
            return False
        return word == "listening" and pid not in server.pids

    server.until(another, 60, server.statuses)


def test_who_comes_while_the_worker_stops_is_sent_away_politely(filled: Database) -> None:
    """gunicorn's gevent worker takes connections for up to a second more. To an error EventSource never returns."""
    with serving("gevent", filled.url, workers=1) as server:
        [old] = [psutil.Process(pid) for pid in server.pids]
        os.kill(server.processes[0].pid, signal.SIGHUP)
        met: set[tuple[bool, str]] = set()
        while old.is_running() and old.status() != psutil.STATUS_ZOMBIE:
            reader = SseReader(server.ports[0], ["orders"])  # it insists on 200
            while not reader.others:
                assert reader.read(), "the stream ended without a word"
            met.add((reader.process == old.pid, reader.others[0]))
            reader.sock.close()
        assert (True, "bye") in met
        assert met <= {(True, "ready"), (True, "bye"), (False, "ready")}


def test_the_shipped_configuration(filled: Database) -> None:
    """gevent, one worker for each core unless WEB_CONCURRENCY or -w says otherwise, and it drains."""
    options = ["-c", "python:pgevents_push.gunicorn_conf"]
    with (
        serving("gevent", filled.url, workers=1, options=options) as server,
        start_clients(server.ports, ["orders"], 100, 5) as clients,
    ):
        drain(server, clients, lambda: os.kill(server.processes[0].pid, signal.SIGTERM), 5)
        assert "Warning" not in server.output()
