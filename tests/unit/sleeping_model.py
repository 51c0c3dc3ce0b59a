"""A model of PostgreSQL as far as falling asleep is concerned, and an explorer of all orders of events in it.

The listener is the real Doorbell. Before each of its calls writers may take steps; a choice says which. `explore`
runs through all choices, one after the other, so a missed wake-up cannot hide. A writer's steps, all of them atomic
in PostgreSQL:

insert · probe · visible · unlock · ring      a commit is three steps: visible to others, locks gone, listeners told
insert · probe · gone                         a rollback
insert · probe · prepare · visible · unlock   two-phase; refused to a transaction that rings, which is then gone
insert · probe · back · insert · probe · …    a savepoint and ROLLBACK TO it

Every step may come between any two calls of the listener, except that time passes while it waits: then some writer
takes a step, if there is one left.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import Any

from pgevents_push.listener.connection import Heard
from pgevents_push.listener.doorbell import CHANNEL, Doorbell

COMMIT = ("insert", "probe", "visible", "unlock", "ring")
ROLLBACK = ("insert", "probe", "gone")
PREPARE = ("insert", "probe", "prepare", "visible", "unlock")
SAVEPOINT = ("insert", "probe", "back", "insert", "probe", "visible", "unlock", "ring")
LONG = 30.0

Choose = Callable[[int], int]
Meet = Callable[[Hashable], None]


class Known(Exception):
    """From here on all is as on another way, which was gone already."""


class Asleep(Exception):
    """The listener sleeps, all writers have ended, and nothing will wake it."""


class Writer:
    """One transaction."""

    def __init__(self, number: int, script: Sequence[str]) -> None:
        self.name = f"3/{number}"
        self.left = list(script)
        self.xid = 0
        self.holds = False
        self.prepared = False
        self.rings = False


class World:
    """The database, its writers, and the line to the one listener."""

    def __init__(self, scripts: Sequence[Sequence[str]], choose: Choose) -> None:
        self.writers = [Writer(number, script) for number, script in enumerate(scripts)]
        self.committed: set[str] = set()
        self.seen: set[str] = set()
        self.lock = False
        self.told = False  # a notification is on the socket …
        self.buffered = False  # … or was read from it behind the result of a statement
        self.now = 0.0
        self._xid = self._last_ended = 0
        self._choose = choose
        self.queue: Callable[[], bool] = lambda: False
        self.meet: Meet = lambda state: None  # called before each choice
        self._heard: tuple[Hashable, ...] = ()  # all that the listener was answered: it depends on nothing else

    # what writers do

    def _step(self, writer: Writer) -> None:
        getattr(self, f"_{writer.left.pop(0)}")(writer)

    def _insert(self, writer: Writer) -> None:
        if not writer.xid:
            self._xid = writer.xid = self._xid + 1
        writer.holds = True

    def _probe(self, writer: Writer) -> None:
        writer.rings = self.lock

    def _back(self, writer: Writer) -> None:
        writer.holds = writer.rings = False

    def _visible(self, writer: Writer) -> None:
        self.committed.add(writer.name)
        self._last_ended = max(self._last_ended, writer.xid)

    def _unlock(self, writer: Writer) -> None:
        writer.holds = False

    def _ring(self, writer: Writer) -> None:
        self.told |= writer.rings

    def _gone(self, writer: Writer) -> None:
        self._last_ended = max(self._last_ended, writer.xid)
        writer.holds, writer.left = False, []

    def _prepare(self, writer: Writer) -> None:
        writer.prepared = True
        if writer.rings:
            self._gone(writer)

    def _some_steps(self, at_least: int = 0) -> None:
        while busy := [writer for writer in self.writers if writer.left]:
            self.meet((at_least, *self._state()))
            chosen = self._choose(len(busy) + (at_least <= 0))
            if chosen == len(busy):
                return
            self._step(busy[chosen])
            at_least -= 1

    def _state(self) -> tuple[Hashable, ...]:
        writers = tuple((tuple(w.left), w.xid, w.holds, w.prepared, w.rings) for w in self.writers)
        sets = frozenset(self.committed), frozenset(self.seen)
        return (writers, *sets, self.lock, self.told, self.buffered, self.now, self._xid, self._last_ended, self._heard)

    # what the listener does

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        self._some_steps()
        answer = self._answer(statement)
        self._heard += (tuple(answer),)
        return answer

    def _answer(self, statement: str) -> list[tuple[Any, ...]]:
        self.buffered, self.told = self.buffered or self.told, False
        if "lock_shared" in statement:
            self.lock = "unlock" not in statement
            return [(True,)]
        if "NOT granted" in statement:
            return [(self.queue(),)]
        if "pg_locks" in statement:
            return [("-1/9" + w.name if w.prepared else w.name, w.prepared) for w in self.writers if w.holds]
        if "horizon" in statement:
            running = [w.xid for w in self.writers if w.xid and w.left and w.name not in self.committed]
            return [(min(running, default=self._last_ended + 1), self._last_ended + 1)]
        assert "pg_listening_channels" in statement, statement
        return [(CHANNEL,)]

    def read(self) -> bool:
        self._some_steps()
        before, self.seen = self.seen, set(self.committed)
        self._heard += ("read",)
        self._some_steps()  # while the result is under way, with whatever comes behind it
        self.buffered, self.told = self.buffered or self.told, False
        self._heard += (self.seen != before,)
        return self.seen != before

    def wait(self, timeout: float) -> Heard:
        heard = self._wait(timeout)
        self._heard += (heard,)
        return heard

    def _wait(self, timeout: float) -> Heard:
        while not self._rung():
            busy = any(writer.left for writer in self.writers)
            if timeout > LONG / 2 and not busy:
                raise Asleep
            if busy:
                self._some_steps(at_least=1)
            if timeout <= LONG / 2:
                self.now += timeout
                return "rung" if self._rung() else "silent"
        self.told = self.buffered = False
        return "rung"

    def _rung(self) -> bool:
        return self.told or self.buffered

    def is_shared(self) -> bool:
        return False

    def pause(self, timeout: float) -> Heard:
        self._some_steps(at_least=1)
        self.now += timeout
        self.told = self.buffered = False
        self._heard += ("paused",)
        return "silent"


def missed(world: World, make: Callable[[World], Doorbell]) -> set[str]:
    """Let the listener run until it sleeps for good; return which commits it has not seen by then."""
    doorbell = make(world)
    found = world.read()
    try:
        for _ in range(300):
            doorbell.wait(found)
            found = world.read()
    except Asleep:
        return world.committed - world.seen
    raise AssertionError("it never falls asleep")


def explore(run: Callable[[Choose, Meet], None]) -> int:
    """Run with every sequence of choices, but for those that come to where another one was; return how many runs."""
    path: list[list[int]] = []  # [chosen, options] of each choice
    ways: dict[Hashable, list[int]] = {}  # by which choices each state was met first
    runs = 0
    while True:
        depth = 0

        def choose(options: int) -> int:
            nonlocal depth
            if depth == len(path):
                path.append([0, options])
            depth += 1
            return path[depth - 1][0]

        def meet(state: Hashable) -> None:
            way = [chosen for chosen, _ in path[:depth]]  # noqa: B023  (of this run, which is over before the next)
            if ways.setdefault(state, way) != way:
                raise Known

        with suppress(Known):
            run(choose, meet)
        runs += 1
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return runs
        path[-1][0] += 1
