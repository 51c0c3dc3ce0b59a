"""A bad app: its handlers raise, hang and kill, its code blocks the hub. Everybody else gets every change."""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from tests.faults import writers
from tests.faults.everybody import CLIENTS, check_everybody, fill, last_insert
from tests.fixtures.clients import start_clients
from tests.fixtures.postgres import Database
from tests.fixtures.servers import Serving, serving

BLOCKED_SECONDS = 2.0
GONE_SECONDS = 15.0  # gunicorn would wait for 30
LOAD = writers.Load(seed=11, table="orders", writers=2, longest_seconds=0.05)


@pytest.fixture
def filled(database: Database) -> Database:
    return fill(database)


@pytest.fixture
def served(filled: Database) -> Iterator[Serving]:
    with serving("gevent", filled.url, app="tests.fixtures.bad_app:app") as served:
        yield served


def test_a_blocked_hub_is_named_and_catches_up(filled: Database, served: Serving) -> None:
    with start_clients(served.ports, ["orders"], CLIENTS, CLIENTS) as clients:
        with writers.writing(filled.connect, LOAD):
            threads = [threading.Thread(target=block, args=[served]) for _ in range(4)]  # some for each worker
            for thread in threads:
                thread.start()
            time.sleep(0.5)
        for thread in threads:
            thread.join(60)
        reports = clients.until(last_insert(filled, 999_999))
    assert check_everybody(filled, served, reports) > 50
    assert sum("blocked" in line for line in served.lines()) == len(threads)
    assert "reconnecting" not in [line.get("status") for line in served.lines()]
    assert "stood still" in served.printed()


def block(served: Serving) -> None:
    url = f"http://127.0.0.1:{served.ports[0]}/block?seconds={BLOCKED_SECONDS}"
    urllib.request.urlopen(url, timeout=60).close()


def test_bad_handlers_disturb_nobody_and_do_not_keep_a_worker_alive(filled: Database, served: Serving) -> None:
    with start_clients(served.ports, ["orders"], CLIENTS, CLIENTS) as clients:
        with writers.writing(filled.connect, LOAD):
            time.sleep(1.5)
        reports = clients.until(last_insert(filled, 999_999))
        made = check_everybody(filled, served, reports)
    assert made > 50
    hung = [line["pid"] for line in served.lines() if "hangs" in line]
    assert sorted(hung) == sorted(served.pids), "each worker's hangs in its first event"
    assert set(served.statuses().values()) == {"listening"}
    workers = [psutil.Process(pid) for pid in served.pids]
    os.kill(served.processes[0].pid, signal.SIGTERM)
    gone, alive = psutil.wait_procs(workers, GONE_SECONDS)
    assert not alive, served.output()
    assert len(gone) == len(workers)
