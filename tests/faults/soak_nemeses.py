"""Nemeses of the soak: what goes wrong, each a function that does it, lasts a while and leaves things whole."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psutil
import psycopg2

from demo.postgres import Postgres
from tests.faults.stage import Stage
from tests.fixtures.proxy import Mode

KILL = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'pgevents_push'"


# No nemesis keeps a writer so long from committing what it has prepared.
ORPHAN_SECONDS = 8


def kill_listeners(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.execute(KILL)
        time.sleep(0.4)


def crash(stage: Stage, seconds: float) -> None:
    stage.postgres.stop("immediate")
    time.sleep(seconds)
    stage.postgres.start()


def crash_backend(stage: Stage, seconds: float) -> None:
    """Kill the backend of a connection: the postmaster ends all others and recovers, and stays the same process."""
    connection = stage.connect()
    os.kill(_process_of(stage, connection.info.backend_pid), signal.SIGKILL)
    connection.close()
    time.sleep(seconds)
    while not _answers(stage):
        time.sleep(0.02)


def _answers(stage: Stage) -> bool:
    try:
        stage.execute("SELECT 1")
    except psycopg2.OperationalError:  # it recovers still
        return False
    return True


def _process_of(stage: Stage, pid: int) -> int:
    """Make sure that it is one of our server's, also where the server has a namespace of its own."""
    return next(child.pid for child in psutil.Process(stage.postgres.pid).children() if child.pid == pid)


def restart(stage: Stage, seconds: float) -> None:
    """A polite one, as for an upgrade."""
    stage.postgres.stop("fast")
    time.sleep(seconds)
    stage.postgres.start()


@contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    """Stop every process of the server, the postmaster first: it would replace what it misses."""
    postmaster = psutil.Process(postgres.pid)
    postmaster.suspend()
    processes = postmaster.children(recursive=True)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in (*processes, postmaster):
            with suppress(psutil.NoSuchProcess):
                process.resume()


def freeze(stage: Stage, seconds: float) -> None:
    with frozen(stage.postgres):
        time.sleep(seconds)


def full(stage: Stage, seconds: float) -> None:
    """Take all connections that the server has, so that nobody else gets one."""
    taken = list[Any]()
    with suppress(psycopg2.OperationalError):
        while True:
            taken.append(stage.connect())
    taken[0].cursor().execute(KILL)
    time.sleep(seconds)
    for connection in taken:
        connection.close()


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


def stop_worker(stage: Stage, seconds: float) -> None:
    """As if something blocked its hub."""
    worker = psutil.Process(stage.workers()[-1])
    worker.suspend()
    time.sleep(seconds)
    worker.resume()


def kill_worker(stage: Stage, seconds: float) -> None:
    os.kill(stage.workers()[0], signal.SIGKILL)
    time.sleep(seconds)


def reload(stage: Stage, seconds: float) -> None:
    os.kill(stage.serving.processes[0].pid, signal.SIGHUP)
    time.sleep(seconds)


def ddl(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for table in ("item", "pair"):
            for statement in ("ADD COLUMN extra text DEFAULT 'x'", "DROP COLUMN extra"):
                while not _altered(stage, f"{table} {statement}"):
                    time.sleep(0.05)
        time.sleep(0.2)


def _altered(stage: Stage, what: str) -> bool:
    _end_orphans(stage)
    try:
        stage.execute(f"SET lock_timeout = 300; ALTER TABLE {what}")
    except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
        return False
    return True


def _end_orphans(stage: Stage) -> None:
    """Commit what a writer prepared and, cut off, never came back for: it would keep the table locked for ever."""
    old = f"prepared < now() - interval '{ORPHAN_SECONDS} seconds'"
    for (gid,) in stage.execute(f"SELECT gid FROM pg_prepared_xacts WHERE {old}"):
        stage.execute(f"COMMIT PREPARED '{gid}'")


NEMESES: dict[str, tuple[Callable[[Stage, float], None], float]] = {
    "kill listeners": (kill_listeners, 1.5),
    "crash": (crash, 0.3),
    "crash backend": (crash_backend, 0.5),
    "restart": (restart, 0.3),
    "freeze": (freeze, 3.0),
    "full": (full, 1.0),
    "cut": (cut, 1.0),
    "hole": (_through("hole"), 3.0),
    "delay": (_through("delay"), 1.5),
    "bytes": (_through("bytes"), 1.5),
    "throttle": (_through("throttle"), 1.5),
    "long transaction": (long_transaction, 1.5),
    "forge": (forge, 0.7),
    "stop worker": (stop_worker, 1.5),
    "kill worker": (kill_worker, 1.0),
    "reload": (reload, 1.5),
    "ddl": (ddl, 0.7),
}


class Step(NamedTuple):
    """Wait `pause` seconds, then let the nemesis do its work for about `seconds`."""

    pause: float
    name: str
    seconds: float


def plan(seed: int, seconds: float, names: Collection[str] = tuple(NEMESES)) -> list[Step]:
    """Return what goes wrong within about `seconds`: each of these nemeses once before any comes again."""
    chance, steps, left = random.Random(f"{seed}/nemeses"), list[Step](), seconds
    while True:
        for name in chance.sample(sorted(names), len(names)):
            step = Step(chance.uniform(0.05, 0.4), name, NEMESES[name][1] * chance.uniform(0.6, 1.2))
            left -= step.pause + step.seconds
            if left < 0:
                return steps
            steps.append(step)
