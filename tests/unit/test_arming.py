"""Falling asleep: no order of events misses a commit; every wrong way of doing it does, and is caught."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.capture import render
from pgevents_push.listener.arming import LOCK, Arming
from pgevents_push.listener.connection import Heard
from pgevents_push.listener.doorbell import Doorbell
from pgevents_push.listener.pace import Allowance
from tests.unit.sleeping_model import COMMIT, LONG, PREPARE, ROLLBACK, SAVEPOINT, Choose, Meet, World, explore, missed

# One commit as a single step, so that two writers have few enough orders to go through.
SHORT = ("insert", "probe", "visible", "unlock")


class Whole(World):
    """A world in which a commit is one step."""

    def _unlock(self, writer: object) -> None:
        for each in self.writers:
            if each is writer:
                each.holds = False
                self._ring(each)

    def _visible(self, writer: object) -> None:
        for each in self.writers:
            if each is writer:
                super()._visible(each)
                each.left.clear()
                self._unlock(each)


def ours(world: World) -> Doorbell:
    return Doorbell(world, LONG, clock=lambda: world.now, used=lambda: 0.0)


class ReadsBeforeTheLock(Doorbell):
    """Takes the last read of nothing for enough: the lock comes after it."""

    def _stay_awake(self, found: int, limit: float) -> None:
        super()._stay_awake(found, limit)
        if self._arming.armed:
            self._sleep(limit)


class _NotesNobody(Arming):
    def _writing(self, among: frozenset[str] | None = None) -> frozenset[str]:
        self._execute("SELECT FROM pg_locks")
        return frozenset()


class _NotesTheHorizon(Arming):
    """Waits until all transactions below the snapshot's xmax have ended."""

    _until = 0

    def _writing(self, among: frozenset[str] | None = None) -> frozenset[str]:
        [(xmin, xmax)] = self._execute("horizon")
        self._until = xmax if among is None else self._until
        return frozenset() if xmin >= self._until else frozenset({str(xmin)})


class _ForgetsThePrepared(Arming):
    def _writing(self, among: frozenset[str] | None = None) -> frozenset[str]:
        found = super()._writing(among)
        return found if among is None else found & among


class _NotesBeforeTheLock(Arming):
    def arm(self) -> bool:
        noted = self._writing()
        armed = super().arm()
        self._noted, self.settled = noted, not noted
        return armed


class LooksAfterTheRead(Doorbell):
    """Settled when nobody is left at the look, although the read was before it."""

    def _settle(self, limit: float) -> Heard:
        self._arming.look()
        return self._connection.wait(limit if self._arming.settled else self._settling.next())


class DoesNotAskLibpq(World):
    """A wait that sleeps on the socket although a notification has been read from it already."""

    def wait(self, timeout: float) -> Heard:
        self.buffered = False
        return super().wait(timeout)


def with_arming(kind: type[Arming]) -> Callable[[World], Doorbell]:
    def make(world: World) -> Doorbell:
        doorbell = ours(world)
        doorbell._arming = kind(world.execute)
        return doorbell

    return make


def with_doorbell(kind: type[Doorbell]) -> Callable[[World], Doorbell]:
    return lambda world: kind(world, LONG, clock=lambda: world.now, used=lambda: 0.0)


class Missed(Exception):
    """A commit was not seen."""


def explore_all(
    scripts: Sequence[Sequence[str]], make: Callable[[World], Doorbell] = ours, kind: type[World] = World
) -> int:
    def run(choose: Choose, meet: Meet) -> None:
        world = kind(scripts, choose)
        world.meet = meet
        if missed(world, make):
            raise Missed

    return explore(run)


@pytest.mark.parametrize(
    "script", [COMMIT, ROLLBACK, PREPARE, SAVEPOINT], ids=["commit", "rollback", "2pc", "savepoint"]
)
def test_one_writer_in_every_order(script: Sequence[str]) -> None:
    assert explore_all([script]) > 20


def test_two_writers_in_every_order() -> None:
    assert explore_all([SHORT, SHORT], kind=Whole) > 1000


def test_a_writer_and_one_that_prepares_in_every_order() -> None:
    assert explore_all([SHORT, ("insert", "probe", "prepare", "visible")], kind=Whole) > 1000


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
@settings(max_examples=300, deadline=None)
@given(
    scripts=st.lists(st.sampled_from([COMMIT, ROLLBACK, PREPARE, SAVEPOINT]), min_size=3, max_size=6),
    seed=st.integers(0, 2**32),
    eager=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_many_writers_by_chance(busy: bool, scripts: list[Sequence[str]], seed: int, eager: float) -> None:
    """Busy: the first ring wakes the listener up for good, so it falls asleep again and again."""
    chance = random.Random(seed)

    def choose(options: int) -> int:
        return options - 1 if chance.random() > eager else chance.randrange(options)

    def make(world: World) -> Doorbell:
        doorbell = ours(world)
        if busy:
            doorbell._allowance = Allowance(1000.0, 0, lambda: world.now)
        world.queue = lambda: chance.random() < 0.5
        return doorbell

    assert missed(World(scripts, choose), make) == set()


@pytest.mark.parametrize(
    ("make", "scripts"),
    [
        (with_doorbell(ReadsBeforeTheLock), [COMMIT]),
        (with_doorbell(LooksAfterTheRead), [COMMIT]),
        (with_arming(_NotesNobody), [COMMIT]),
        (with_arming(_NotesTheHorizon), [COMMIT]),
        (with_arming(_NotesBeforeTheLock), [COMMIT]),
        (with_arming(_ForgetsThePrepared), [PREPARE]),
        (ours, [("probe", "insert", "visible", "unlock", "ring")]),
    ],
    ids=["read first", "look late", "note nobody", "note xmax", "note first", "forget prepared", "probe first"],
)
def test_a_wrong_order_is_caught(make: Callable[[World], Doorbell], scripts: list[Sequence[str]]) -> None:
    with pytest.raises(Missed):
        explore_all(scripts, make)


def test_not_asking_libpq_is_caught() -> None:
    with pytest.raises(Missed):
        explore_all([COMMIT], kind=DoesNotAskLibpq)


def test_writers_and_listeners_mean_the_same_lock() -> None:
    for function in ("ring_v1()", "capture_source_v1("):
        (text,) = (
            text for text in render.schema_statements(1000) if f"CREATE OR REPLACE FUNCTION pgevents.{function}" in text
        )
        assert f"pg_try_advisory_lock({LOCK})" in text or f"bigint := {LOCK};" in text
