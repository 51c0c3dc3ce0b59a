"""When a process prunes, and how often it tries; no database and no clock."""

from __future__ import annotations

from typing import Any

import pytest

from pgevents_push.cursor import Snapshot
from pgevents_push.listener import Pruned, Pruner, is_kept, prune
from pgevents_push.listener.retention import PAUSE_SECONDS, TRIES


class Answers:
    """Stands for a connection: gives one prepared answer after the other, and notes what it was asked."""

    def __init__(self, *answers: list[tuple[Any, ...]]) -> None:
        self.left = list(answers)
        self.asked: list[Any] = []

    def execute(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        self.asked.append(parameters)
        return self.left.pop(0)


def test_what_is_held_is_tried_again_and_remembered() -> None:
    pauses: list[float] = []
    answers = Answers([(3, 10, False), (4, 20, True)], [(3, 10, False)], [(3, 11, True)])
    assert prune(answers.execute, pauses.append) == [Pruned(3, 11, True), Pruned(4, 20, True)]
    assert pauses == [PAUSE_SECONDS] * 2


def test_what_stays_held_is_left_for_later() -> None:
    answers = Answers(*[[(3, 10, False)]] * TRIES)
    assert prune(answers.execute, lambda _: None) == [Pruned(3, 10, False)]
    assert answers.left == []


def test_nothing_due_is_asked_once() -> None:
    assert prune(Answers([]).execute, lambda _: None) == []


def test_a_snapshot_is_asked_for_as_postgresql_takes_it() -> None:
    answers = Answers([(True,)])
    assert is_kept(answers.execute, Snapshot.parse("5:9:5,7"))
    assert answers.asked == [{"xmax": "9", "xip": ["5", "7"]}]


class Counting(Pruner):
    """Counts instead of connecting."""

    count = 0

    def _once(self) -> list[Pruned]:
        self.count += 1
        return []


@pytest.mark.parametrize(("seconds", "every"), [(3600.0, 180.0), (100.0, 5.0), (4.0, 0.2), (1.0, 0.1), (1e6, 300.0)])
def test_processes_prune_about_four_times_a_slot_and_not_in_step(seconds: float, every: float) -> None:
    """Half a chance: first after half of the time, then after the whole of it."""
    clock = [1000.0]
    pruner = Counting({}, seconds, 5, lambda: clock[0], lambda: 0.5)
    seen = []
    for at in (0.0, 0.49, 0.51, 1.4, 1.6, 2.4, 2.7):
        clock[0] = 1000.0 + at * every
        pruner.look()
        if pruner._task is not None:
            pruner._task.join(30)
        seen.append(pruner.count)
    assert seen == [0, 0, 1, 1, 2, 2, 3]


def test_a_stopped_pruner_starts_nothing() -> None:
    clock = [0.0]
    pruner = Counting({}, 100.0, 5, lambda: clock[0], lambda: 0.0)
    pruner.stop()
    pruner.stop()
    clock[0] = 1e9
    pruner.look()
    assert pruner.count == 0
