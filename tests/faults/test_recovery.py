"""Recovery: how long streams that stay open take to go on, and how soon a server that says nothing is noticed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.faults.probes import Probes, probing, until
from tests.faults.soak_nemeses import KILL, crash, crash_backend, frozen, restart
from tests.faults.stage import SETTINGS, Stage, staged
from tests.fixtures.servers import WORKERS

pytestmark = pytest.mark.alone

KILLED_SECONDS = 1.0
RESTARTED_SECONDS = 2.0
# The log is read each second (PGEVENTS_POLL_SECONDS), and the server then has this long to answer.
DEADLINE_SECONDS = 1.0 + SETTINGS["connect_timeout_seconds"]
# What a machine may add that stands still for a moment. Who does not notice hears of it after 20 s, or never.
SLACK_SECONDS = 3.0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with staged() as stage:
        yield stage


@pytest.fixture
def probes(stage: Stage) -> Iterator[Probes]:
    with probing(stage) as probes:
        probes.deliver()
        yield probes


def kill(stage: Stage, seconds: float) -> None:
    assert stage.execute(KILL)[0][0] >= WORKERS


def cut(stage: Stage, seconds: float) -> None:
    assert stage.proxy.cut() >= 2 * WORKERS


@pytest.mark.parametrize(
    ("nemesis", "most"),
    [
        (kill, KILLED_SECONDS),
        (cut, KILLED_SECONDS),
        (crash, RESTARTED_SECONDS),
        (crash_backend, RESTARTED_SECONDS),
        (restart, RESTARTED_SECONDS),
    ],
)
def test_streams_go_on_soon(stage: Stage, probes: Probes, nemesis: Callable[[Stage, float], None], most: float) -> None:
    """The nemesis returns when the server is there again."""
    taken = []
    for _ in range(3):
        nemesis(stage, 0.3)
        taken.append(probes.deliver())
    print(f"{nemesis.__name__}: {taken} s")
    assert sorted(taken)[1] < most
    assert max(taken) < most + SLACK_SECONDS


@contextmanager
def hole(stage: Stage) -> Iterator[None]:
    stage.proxy.mode = "hole"
    try:
        yield
    finally:
        stage.proxy.mode = "open"


@contextmanager
def freeze(stage: Stage) -> Iterator[None]:
    with frozen(stage.postgres):
        yield


@pytest.mark.parametrize("silence", [hole, freeze])
def test_a_server_that_says_nothing_is_noticed(
    stage: Stage, probes: Probes, silence: Callable[[Stage], AbstractContextManager[None]]
) -> None:
    """In time; and whoever is connected sees meanwhile that the stream is alive."""
    with silence(stage):
        began = time.monotonic()
        assert until(lambda: set(stage.serving.statuses().values()) == {"reconnecting"}, 30), stage.serving.statuses()
        noticed = time.monotonic() - began
        before = probes.syncs.copy()
        beats = until(lambda: all(probes.syncs[pid] >= n + 2 for pid, n in before.items()), 20)
    began = time.monotonic()
    arrived = probes.deliver()
    print(
        f"{silence.__name__}: noticed after {noticed:.2f} s, caught up {time.monotonic() - began:.2f} s after its end"
    )
    assert len(before) == WORKERS
    assert beats, (before, probes.syncs)
    assert noticed < DEADLINE_SECONDS + SLACK_SECONDS
    assert arrived < RESTARTED_SECONDS + SLACK_SECONDS
