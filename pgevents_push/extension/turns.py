"""Turns: a few at a time, in the order in which they came. Who cannot wait any longer for now keeps its place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from pgevents_push.errors import Crowded

# Who does not ask again within so long has left.
AWAY_SECONDS = 5.0


class _Place:
    """Somebody in the line. `called`: it is its turn."""

    def __init__(self) -> None:
        self.called = threading.Event()
        self.here = True
        self.left_at = 0.0


class Turns:
    """The line before a counter.

    Not a semaphore: its waiters would be silent for as long as a thousand others take, and one that gives up to say a
    word to its client would begin at the end each time, behind those that gave up a moment later: the last would never
    come to the front.

    :param most: how many may have their turn at the same time.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = most
        self._clock = clock
        self._line: dict[Hashable, _Place] = {}
        self._lock = threading.Lock()

    def has(self, who: Hashable) -> bool:
        """Whether somebody stands in this line."""
        return who in self._line

    @contextmanager
    def turn(self, who: Hashable, patience: float) -> Iterator[None]:
        """Have a turn.

        :param who: is known by this when it asks again.
        :raises Crowded: it was not called for `patience` seconds.
        """
        place = self._join(who)
        try:
            if not (place.called.wait(patience) or self._step_back(place)):
                raise Crowded
            yield
        finally:
            self._leave(place)

    def _join(self, who: Hashable) -> _Place:
        with self._lock:
            place = self._line.setdefault(who, _Place())
            place.here = True
            self._call()
            return place

    def _step_back(self, place: _Place) -> bool:
        """Go away for a moment, unless it was called just now; tell which."""
        with self._lock:
            place.here, place.left_at = False, self._clock()
            return place.called.is_set()

    def _leave(self, place: _Place) -> None:
        """Make room for the next, also where a greenlet was killed in the line."""
        if self._step_back(place):
            with self._lock:
                self._free += 1
                self._call()

    def _call(self) -> None:
        """Call the first ones that are here, as many as may come, and strike out who has left."""
        gone = []
        for who, place in self._line.items():
            if not self._free:
                break
            if place.here:
                self._free -= 1
                place.called.set()
                gone.append(who)
            elif self._clock() - place.left_at > AWAY_SECONDS:
                gone.append(who)
        for who in gone:
            del self._line[who]
