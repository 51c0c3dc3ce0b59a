"""The line before the log: first come, first served, also of those that go away for a moment to say a word."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pgevents_push.errors import Crowded
from pgevents_push.extension.turns import AWAY_SECONDS, Turns
from tests.fixtures.patience import wait_until


class Counter:
    """A counter with one turn, which the test itself takes at first."""

    def __init__(self, most: int = 1) -> None:
        self.now = 0.0
        self.turns = Turns(most, lambda: self.now)
        self.served: list[str] = []
        self._threads: list[threading.Thread] = []

    def asks(self, who: str, patience: float = 0.0) -> bool:
        try:
            with self.turns.turn(who, patience):
                self.served.append(who)
                return True
        except Crowded:
            return False

    def waits(self, who: str) -> None:
        """Let somebody wait in the background."""
        self._threads.append(threading.Thread(target=self.asks, args=(who, 20.0)))
        self._threads[-1].start()
        wait_until(lambda: self.turns.has(who) and self.turns._line[who].here)

    def busy(self, meanwhile: Callable[[], None]) -> list[str]:
        """Do something while the turn is taken; return who was served then, in order."""
        with self.turns.turn("test", 0):
            meanwhile()
        for thread in self._threads:
            thread.join(20)
        return self.served


def test_first_come_first_served() -> None:
    counter = Counter()

    def meanwhile() -> None:
        for who in "abc":
            counter.waits(who)

    assert counter.busy(meanwhile) == ["a", "b", "c"]


def test_who_goes_away_for_a_moment_keeps_its_place() -> None:
    """With a semaphore it would begin behind those that came later, each time."""
    counter = Counter()

    def meanwhile() -> None:
        assert not counter.asks("early")
        counter.waits("late")
        counter.waits("early")

    assert counter.busy(meanwhile) == ["early", "late"]


def test_who_is_away_when_its_turn_comes_is_passed_over_and_not_forgotten() -> None:
    counter = Counter()

    def meanwhile() -> None:
        assert not counter.asks("away")
        counter.waits("here")

    assert counter.busy(meanwhile) == ["here"]
    assert counter.turns.has("away")
    assert counter.asks("away")
    assert not counter.turns.has("away")


def test_who_never_comes_back_is_struck_out() -> None:
    counter = Counter()

    def meanwhile() -> None:
        assert not counter.asks("gone")
        counter.now += AWAY_SECONDS + 1
        counter.waits("here")

    assert counter.busy(meanwhile) == ["here"]
    assert not counter.turns.has("gone")


def test_as_many_as_there_are_turns() -> None:
    counter = Counter(2)
    with counter.turns.turn("a", 0), counter.turns.turn("b", 0):
        assert not counter.asks("c")
    assert counter.asks("c")


@pytest.mark.parametrize("where", ["in the line", "at the counter"])
def test_one_that_is_killed_keeps_nobody_waiting(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn kills the greenlets of streams."""
    counter = Counter()

    class Killed(BaseException):
        pass

    def kill(self: threading.Event, timeout: float | None = None) -> bool:
        raise Killed

    def meanwhile() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Event, "wait", kill)
            with pytest.raises(Killed):
                counter.asks("killed")
        counter.waits("next")

    if where == "in the line":
        assert counter.busy(meanwhile) == ["next"]
        return
    with pytest.raises(Killed), counter.turns.turn("killed", 0):
        raise Killed
    assert counter.asks("next")
