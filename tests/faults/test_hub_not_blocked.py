"""Nothing that the listener does stops gevent's hub: not connecting, not installing, not a query that hangs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import programs
from tests.fixtures.postgres import Database
from tests.fixtures.servers import ROOT, python

# Each obstacle lasts HOLD_SECONDS; a call that blocks stops the hub for most of it. A noisy machine of two cores
# stops it for some tens of milliseconds, now and then for some tenths of a second.
HOLD_SECONDS = 2.5
MOST_SECONDS = 1.0
BLOCKED_SECONDS = 1.5
PATIENCE_SECONDS = 60.0


class Process:
    """tests/faults/hub_ticker.py, and how long its hub stood still."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self) -> tuple[float, str]:
        """Return the longest standstill since the last time, and the listener's status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"it ended with {self._process.wait()}"
        answer = json.loads(line)
        return answer["longest"], answer["status"]

    def until_listening(self) -> float:
        """Wait until it listens; return the longest standstill meanwhile."""
        longest, ends = 0.0, time.monotonic() + PATIENCE_SECONDS
        while True:
            stood, status = self.ask()
            longest = max(longest, stood)
            if status == "listening":
                return longest
            assert time.monotonic() < ends, status
            time.sleep(0.02)


@contextmanager
def ticking(url: str, place: Path, broken: str, **more: Any) -> Iterator[Process]:
    settings = {"SQLALCHEMY_DATABASE_URI": url, "PGEVENTS_POLL_SECONDS": 0.05, "TESTING": True, **more}
    environment = {
        **os.environ, "APP_SETTINGS": json.dumps(settings), "HANDLER_LOG": str(place / "log"), "BREAK": broken,
    }  # fmt: skip
    process = subprocess.Popen(
        python("-m", "tests.faults.hub_ticker"), cwd=ROOT, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Process(process)
    finally:
        process.kill()
        process.communicate()


def lock(database: Database, table: str) -> Any:
    """Take a lock that nobody gets past; return the connection that holds it."""
    connection = database.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    return connection


def hold(database: Database, connection: Any) -> None:
    """Wait until somebody waits for the lock, hold it for HOLD_SECONDS more, and let it go."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while not database.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'"):
        assert time.monotonic() < ends, "nobody waits for the lock"
        time.sleep(0.01)
    time.sleep(HOLD_SECONDS)
    connection.rollback()


@pytest.fixture
def filled(database: Database) -> Database:
    database.execute(programs.SCHEMA)
    return database


def while_installing(database: Database, place: Path, broken: str) -> float:
    """A table is locked, so that its trigger cannot be installed yet."""
    lock_holder = lock(database, "orders")
    with ticking(database.url, place, broken) as process:
        hold(database, lock_holder)
        return process.until_listening()


def while_reading(database: Database, place: Path, broken: str) -> float:
    """The log is locked, so that the listener waits for an answer."""
    with ticking(database.url, place, broken) as process:
        process.until_listening()
        hold(database, lock(database, "pgevents.log"))
        return process.ask()[0]


def while_connecting(database: Database, place: Path, broken: str) -> float:
    """Somebody takes the connection and never says a word."""
    silent = socket.create_server(("127.0.0.1", 0))
    silent.settimeout(PATIENCE_SECONDS)
    url = f"postgresql+psycopg2://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"
    # Without installing, which would come first, in a thread of its own.
    more = {"PGEVENTS_INSTALL": "off", "PGEVENTS_CONNECT_TIMEOUT_SECONDS": HOLD_SECONDS}
    with ticking(url, place, broken, **more) as process:
        taken = [silent.accept()[0] for _ in range(2)]  # with the second, the first attempt is over
        for one in (*taken, silent):
            one.close()
        stood, status = process.ask()
        assert status != "listening"
        return stood


CASES = [(while_installing, "install"), (while_reading, "read"), (while_connecting, "read")]
Case = Callable[[Database, Path, str], float]


@pytest.mark.parametrize(("case", "broken"), CASES)
def test_hub_is_never_blocked(case: Case, broken: str, filled: Database, tmp_path: Path) -> None:
    assert case(filled, tmp_path, "") < MOST_SECONDS


@pytest.mark.parametrize(("case", "broken"), CASES)
def test_a_blocking_call_is_noticed(case: Case, broken: str, filled: Database, tmp_path: Path) -> None:
    """The same, with the package broken on purpose: so the test above can fail."""
    assert case(filled, tmp_path, broken) > BLOCKED_SECONDS
