"""A listener that sleeps wakes up when ringing costs writers more than it saves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pgevents_push.listener.connection import Heard
from pgevents_push.listener.doorbell import AWAKE_SECONDS, BUSY_SECONDS, HURRY_SECONDS, Doorbell


class Line:
    """A connection to which somebody rings each `every` seconds, alone or in a queue."""

    def __init__(self, every: float, queue: bool) -> None:
        self.now = 0.0
        self.locked = False
        self.looks = 0
        self.pauses: list[float] = []
        self._every, self._queue = every, queue

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        if "advisory" in statement:
            self.locked = "unlock" not in statement
            return [(True,)]
        if "NOT granted" in statement:
            self.looks += 1
            return [(self._queue,)]
        return []

    def is_shared(self) -> bool:
        return False

    def wait(self, timeout: float) -> Heard:
        self.now += self._every
        return "rung"

    def pause(self, timeout: float) -> Heard:
        self.now += timeout
        self.pauses.append(timeout)
        return "silent"


def after(line: Line, rings: int) -> bool:
    """Let it fall asleep and hear so many rings; return whether it sleeps still."""
    doorbell = Doorbell(line, 1.0, clock=lambda: line.now)
    while not line.locked:
        doorbell.wait(False)
    for _ in range(rings):
        doorbell.wait(True)
        if not line.locked:
            return False
    return True


@pytest.mark.parametrize("every", [0.006, HURRY_SECONDS * 0.9])
def test_a_queue_of_writers_wakes_it_up(every: float) -> None:
    """However seldom they ring, which on a slow disk is all that they can."""
    assert not after(Line(every, queue=True), rings=4)
    quick = Line(every, queue=False)
    assert after(quick, rings=100)
    assert 24 <= quick.looks <= 26, "it looks for the first one that is quick, and for each fourth"


def test_quiet_writers_are_not_looked_at() -> None:
    line = Line(HURRY_SECONDS * 1.1, queue=True)
    assert after(line, rings=100)
    assert line.looks == 0


def test_too_many_rings_wake_it_up() -> None:
    assert not after(Line(0.001, queue=False), rings=100)


def test_a_busy_process_reads_less_often_what_comes_in_numbers() -> None:
    line, cpu = Line(1.0, queue=False), 0.0
    doorbell = Doorbell(line, 1.0, clock=lambda: line.now, used=lambda: cpu)
    doorbell._quiet = 0

    def pauses(times: int, found: int, share: float) -> list[float]:
        nonlocal cpu
        for _ in range(times):
            doorbell.wait(found)
            cpu += line.pauses[-1] * share
        return line.pauses[-times:]

    assert pauses(9, 3, 0.4) == [AWAKE_SECONDS] * 9, "not busy"
    assert pauses(9, 1, 0.9) == [AWAKE_SECONDS] * 9, "there is nothing to put together"
    growing = pauses(9, 2, 0.9)
    assert growing == sorted(growing)
    assert growing[-5:] == [BUSY_SECONDS] * 5
    assert pauses(5, 2, 0.4) == [BUSY_SECONDS] * 5, "less would make it busy again"
    assert pauses(9, 2, 0.2)[-5:] == [AWAKE_SECONDS] * 5
    pauses(9, 2, 0.9)
    assert pauses(9, 1, 0.9)[-5:] == [AWAKE_SECONDS] * 5
    pauses(9, 2, 0.9)
    began = line.now
    while not line.locked:
        doorbell.wait(0)
    assert line.now - began < 0.1, "it falls asleep soon"
