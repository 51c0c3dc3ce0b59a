"""Pace: how often the log may be read, and how the pauses grow; pure, the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable

# Of a core. With less, who waits for a change gets it sooner.
BUSY_SHARE = 0.5


class Allowance:
    """How many rings are answered at once: `burst`, and one more each `seconds`. When it is used up, rings come so
    fast that they save nothing: who only looks each `seconds` reads as much. It also bounds what a flood costs."""

    def __init__(self, seconds: float, burst: int, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> bool:
        """Use one up; False when none is left."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) / self._seconds)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Pause:
    """A pause that grows by half each time, from the shortest to the longest, in seconds."""

    def __init__(self, shortest: float, longest: float) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def reset(self) -> None:
        self._next = self._shortest

    def next(self) -> float:
        pause, self._next = self._next, min(self._longest, self._next * 1.5)
        return pause


class Tempo:
    """The pause between reads while there is much to do, in seconds. It grows while this process is busy and each read
    finds several transactions, which then cost one round of all clients together; else it shrinks again.

    :param used: the seconds of CPU that this process has used so far.
    """

    def __init__(self, shortest: float, longest: float, clock: Callable[[], float], used: Callable[[], float]) -> None:
        self._shortest = shortest
        self._longest = longest
        self._clock, self._used = clock, used
        self._pause = shortest
        self._before = (clock(), used())

    def next(self, transactions: int) -> float:
        """Return the pause after a read that found so many transactions."""
        (then, used_then), self._before = self._before, (self._clock(), self._used())
        busy = (self._before[1] - used_then) / max(1e-9, self._before[0] - then)
        if transactions > 1 and busy > BUSY_SHARE:
            self._pause = min(self._longest, self._pause * 1.5)
        elif transactions <= 1 or busy < BUSY_SHARE / 2:
            self._pause = max(self._shortest, self._pause / 1.5)
        return self._pause
