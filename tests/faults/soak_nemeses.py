"""Nemeses of the soak: what goes wrong, each a function that does it, lasts a while and leaves things whole."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import psutil
import psycopg2

from demo.postgres import Postgres
from tests.fixtures.proxy import Mode, Proxy
from tests.fixtures.servers import Serving

KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgevents_push'"


@dataclass
class Stage:
    """What the nemeses may lay hands on.

    :param connect: returns a new connection to the database, not through the proxy, in autocommit mode.
    """

    postgres: Postgres
    proxy: Proxy
    serving: Serving
    connect: Callable[[], Any]

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


def kill_listeners(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.execute(KILL)
        time.sleep(0.4)


def crash(stage: Stage, seconds: float) -> None:
    stage.postgres.stop("immediate")
    time.sleep(seconds)
    stage.postgres.start()


def freeze(stage: Stage, seconds: float) -> None:
    """Stop every process of the server, the postmaster first: it would replace what it misses."""
    postmaster = psutil.Process(stage.postgres.pid)
    postmaster.suspend()
    processes = postmaster.children(recursive=True)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    time.sleep(seconds)
    for process in (*processes, postmaster):
        with suppress(psutil.NoSuchProcess):
            process.resume()


def cut(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.proxy.cut()
        time.sleep(0.5)


def _through(mode: Mode) -> Callable[[Stage, float], None]:
    def misbehave(stage: Stage, seconds: float) -> None:
        stage.proxy.mode = mode
        time.sleep(seconds)
        stage.proxy.mode = "open"

    return misbehave


def long_transaction(stage: Stage, seconds: float) -> None:
    """It concerns nobody and holds back every xmin."""
    connection = stage.connect()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_current_xact_id()")
        time.sleep(seconds)
    connection.close()


def forge(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.execute("SELECT pg_notify('pgevents', repeat('x', n)) FROM generate_series(1, 200) AS n")


def kill_worker(stage: Stage, seconds: float) -> None:
    os.kill(stage.workers()[0], signal.SIGKILL)
    time.sleep(seconds)


def reload(stage: Stage, seconds: float) -> None:
    os.kill(stage.serving.processes[0].pid, signal.SIGHUP)
    time.sleep(seconds)


def ddl(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for statement in ("ADD COLUMN extra text DEFAULT 'x'", "DROP COLUMN extra"):
            while not _altered(stage, statement):
                time.sleep(0.05)
        time.sleep(0.2)


def _altered(stage: Stage, statement: str) -> bool:
    try:
        stage.execute(f"SET lock_timeout = 300; ALTER TABLE item {statement}")
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
        return False
    return True


NEMESES: dict[str, tuple[Callable[[Stage, float], None], float]] = {
    "kill listeners": (kill_listeners, 1.5),
    "crash": (crash, 0.3),
    "freeze": (freeze, 3.0),
    "cut": (cut, 1.0),
    "hole": (_through("hole"), 3.0),
    "delay": (_through("delay"), 1.5),
    "bytes": (_through("bytes"), 1.5),
    "throttle": (_through("throttle"), 1.5),
    "long transaction": (long_transaction, 1.5),
    "forge": (forge, 0.7),
    "kill worker": (kill_worker, 1.0),
    "reload": (reload, 1.5),
    "ddl": (ddl, 0.7),
}


class Step(NamedTuple):
    """Wait `pause` seconds, then let the nemesis do its work for about `seconds`."""

    pause: float
    name: str
    seconds: float


def plan(seed: int, seconds: float) -> list[Step]:
    """Return what goes wrong within about `seconds`: every nemesis once before any comes again."""
    chance, steps, left = random.Random(f"{seed}/nemeses"), list[Step](), seconds
    while True:
        for name in chance.sample(list(NEMESES), len(NEMESES)):
            step = Step(chance.uniform(0.05, 0.4), name, NEMESES[name][1] * chance.uniform(0.6, 1.2))
            left -= step.pause + step.seconds
            if left < 0:
                return steps
            steps.append(step)
