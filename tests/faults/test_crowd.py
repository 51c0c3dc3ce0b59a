"""Crowds: a thousand come back at once, workers are killed under five hundred; all get exactly what they missed."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.faults.crowd import RunningCrowd, crowd
from tests.faults.probes import Threads, until
from tests.faults.returning import MISSED, OPTIONS, SOURCES, check, come_back, event_ids, figures, write
from tests.faults.stage import Stage, staged

pytestmark = pytest.mark.alone

# The heartbeat by default. Measured: 2 s, and 5 with both cores three times as busy as they can be.
MOST_SILENCE_SECONDS = 15.0
SMALL, LARGE = 100, pytest.param(1_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("clients", [SMALL, LARGE])
def test_all_come_back_at_once(clients: int, source: str) -> None:
    returned = come_back(clients, source)
    check(returned.found, clients, returned.ids)
    print(f"{clients} clients got {MISSED} changes each from {source} in {returned.seconds:.1f} s")
    print(f"live: {figures(returned.quiet)}; meanwhile {figures(returned.stormy)}")
    print(f"the longest silence of one that comes back: {returned.found.silence:.1f} s")
    assert returned.stormy[int(len(returned.stormy) * 0.99)] < 2_000
    if clients == SMALL:  # a thousand first have to be let in
        assert returned.found.silence < MOST_SILENCE_SECONDS


def test_workers_are_killed_under_five_hundred() -> None:
    clients = 500
    with staged(history_bytes=1_000_000, options=OPTIONS) as stage:
        with crowd(stage.port, "item", "", clients) as running:
            writer = Threads(errors := list[str]())
            writer.start(lambda stop: keep_writing(stage, stop))
            for pid in stage.workers():
                until(lambda: False, 1)
                os.kill(pid, signal.SIGKILL)
            until(lambda: False, 2)
            writer.end()
            write(stage, 1)
            check_killed(stage, running, clients)
        assert not errors


def keep_writing(stage: Stage, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        write(stage, 10)


def check_killed(stage: Stage, running: RunningCrowd, clients: int) -> None:
    ids = event_ids(stage)
    found = running.until(ids[-1])
    print(f"all have caught up after {found.seconds:.1f} s; {found.told}")
    check(found, clients, ids)
    assert found.told["hung up"] >= clients
