"""Places: how many connections this process takes, from whom, and for how long; memory only.

A connection has its place from before it is authorised until nothing of it is left. So a caller that is refused has
cost a few counters, and one that is revoked while it is being authorised is found as well.
"""

from __future__ import annotations

import logging
import math
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal

from pgevents_push import waiting
from pgevents_push.chance import chance
from pgevents_push.config import Config
from pgevents_push.errors import RequestError, TooManyConnections, Unavailable
from pgevents_push.hub import CloseReason
from pgevents_push.transports.closing import jittered_milliseconds

log = logging.getLogger(__name__)

Kind = Literal["sse", "websocket", "snapshot"]
KINDS: tuple[Kind, ...] = ("sse", "websocket", "snapshot")
End = Callable[[CloseReason], None]

# Files that a process needs beside its clients: database connections, logs, pipes.
OTHER_FILES = 64
# A stream's life is a random part of the longest one: streams that began together must not come back together.
SHORTEST_LIFE, LONGEST_LIFE = 0.7, 0.95
LOOKS_IN_A_LIFE, LONGEST_PAUSE_SECONDS = 20, 1.0
QUIET_SECONDS = 10.0  # between two lines of the log: who is refused may come back a thousand times a second


def open_files_limit() -> int | None:
    """Return how many files this process may have open; each connection is one. None: no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


class _Seat:
    """What is known of one connection. `end` closes it, once there is something to close. Small, as there are ten
    thousand of them."""

    __slots__ = ("address", "end", "ended", "ends_at", "identity", "kind", "taken_at")

    def __init__(self, kind: Kind, address: str, taken_at: float, ends_at: float) -> None:
        self.kind, self.address = kind, address
        self.taken_at, self.ends_at = taken_at, ends_at
        self.identity: str | None = None
        self.end: End | None = None
        self.ended: CloseReason | None = None


class Place:
    """One connection's place. Forgetting it gives it back as well: a response that the app replaces is never closed."""

    __slots__ = ("_is_left", "_places", "_seat")

    def __init__(self, places: Places, seat: _Seat) -> None:
        self._places, self._seat = places, seat
        self._is_left = False

    def leave(self) -> None:
        """Give it back. Given back already: does nothing."""
        if not self._is_left:
            self._is_left = True
            self._seat.end = None  # which refers back: ten thousand that leave need no garbage collector
            self._places.note_left(self._seat)

    __del__ = leave  # a weakref.finalize does the same in 400 bytes

    @property
    def identity(self) -> str | None:
        """Whose it is, as far as that is known."""
        return self._seat.identity

    def name(self, identity: str | None) -> None:
        """Say whose it is, before asking what that one may see.

        :raises TooManyConnections: this identity has as many as it may have.
        """
        self._places.name(self._seat, identity)

    def occupy(self, end: End) -> None:
        """Say what ends the connection. It ends at once when that has been ordered meanwhile."""
        self._places.occupy(self._seat, end)


class Places:
    """The places of one process.

    :param files: how many files this process may open; None: no limit.
    """

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = chance,
        files: Callable[[], int | None] = open_files_limit,
    ) -> None:
        self._config, self._clock, self._chance = config, clock, chance
        self._most = _fitting(config.max_connections, files())
        self._lock = threading.Lock()
        self._seats: set[_Seat] = set()
        self._of_address: dict[str, set[_Seat]] = {}
        self._of_identity: dict[str, set[_Seat]] = {}
        # The garbage collector adds to it, in the middle of anything: so without a lock, and whoever counts takes note.
        self._left: deque[_Seat] = deque()
        self._stopped = threading.Event()
        self._said_at: dict[str, float] = {}
        self.counts: Counter[str] = Counter()

    def take(self, kind: Kind, address: str | None) -> Place:
        """Give a place to a connection from this address, as Flask sees it.

        :raises Unavailable: this process is full.
        :raises TooManyConnections: this address has as many as it may have.
        """
        now, life = self._clock(), self._life()
        seat = _Seat(kind, sys.intern(address or ""), now, now + life if life else math.inf)
        with self._lock:
            self._settle()
            if len(self._seats) >= self._most:
                self._refuse("process", Unavailable, f"this process has {self._most} connections, as many as it takes")
            self._limit(self._of_address, seat.address, "address", self._config.max_connections_per_address)
            self._seats.add(seat)
            self._of_address.setdefault(seat.address, set()).add(seat)
        return Place(self, seat)

    def note_left(self, seat: _Seat) -> None:
        """See Place.leave."""
        self._left.append(seat)

    def name(self, seat: _Seat, identity: str | None) -> None:
        """See Place.name."""
        if identity is None:
            return
        with self._lock:
            self._settle()
            self._limit(self._of_identity, identity, "identity", self._config.max_connections_per_identity)
            seat.identity = identity
            self._of_identity.setdefault(identity, set()).add(seat)

    def occupy(self, seat: _Seat, end: End) -> None:
        """See Place.occupy."""
        seat.end = end
        if seat.ended is not None:  # looked at after it is set, as `_end` sets the one and then looks at the other
            end(seat.ended)

    def end(self, identity: str, reason: CloseReason) -> int:
        """End all connections of an identity, also those that are just being authorised; return how many."""
        with self._lock:
            self._settle()
            found = list(self._of_identity.get(identity, ()))
        return self._end(found, reason)

    def end_older(self, seconds: float, reason: CloseReason) -> int:
        """End all connections that have been here for longer than this; return how many."""
        return self._end(self._those(lambda seat: self._clock() - seat.taken_at > seconds), reason)

    def look(self) -> None:
        """End the connections whose time is up."""
        self._end(self._those(lambda seat: self._clock() >= seat.ends_at), "lifetime")

    def start(self) -> None:
        """Look now and then, in the background."""
        if longest := self._config.max_stream_seconds:
            pause = min(LONGEST_PAUSE_SECONDS, longest / LOOKS_IN_A_LIFE)
            waiting.spawn(self._keep_looking, pause, name="pgevents-lifetimes")

    def stop(self) -> None:
        """Look no more. Stopped already: does nothing."""
        self._stopped.set()

    def occupied(self) -> Counter[str]:
        """How many connections of each kind there are."""
        with self._lock:
            self._settle()
            return Counter(seat.kind for seat in self._seats)

    def _keep_looking(self, pause: float) -> None:
        while not self._stopped.wait(pause):
            self.look()

    def _life(self) -> float:
        share = SHORTEST_LIFE + (LONGEST_LIFE - SHORTEST_LIFE) * self._chance()
        return self._config.max_stream_seconds * share

    def _those(self, wanted: Callable[[_Seat], bool]) -> list[_Seat]:
        with self._lock:
            self._settle()
            return [seat for seat in self._seats if seat.ended is None and wanted(seat)]

    def _end(self, seats: list[_Seat], reason: CloseReason) -> int:
        for seat in seats:
            seat.ended = seat.ended or reason
            if (end := seat.end) is not None:
                end(reason)
        self.counts[f"ended_{reason}"] += len(seats)
        return len(seats)

    def _limit(self, seats: dict[str, set[_Seat]], key: str, what: str, most: int) -> None:
        if most and len(seats.get(key, ())) >= most:
            # The address, because behind a proxy without ProxyFix it is everybody's; no identity: people have names.
            who = f"the address {key!r:.100}" if what == "address" else "one identity"
            self._refuse(what, TooManyConnections, f"{who} has {most} connections")

    def _refuse(self, what: str, error: type[RequestError], why: str) -> None:
        self.counts[f"refused_{what}"] += 1
        if self._clock() - self._said_at.get(what, -math.inf) > QUIET_SECONDS:
            self._said_at[what] = self._clock()
            log.warning("connections are refused: %s. See PGEVENTS_MAX_CONNECTIONS in the README.", why)
        raise error(retry_after=math.ceil(jittered_milliseconds(self._config.retry_seconds, self._chance) / 1000) or 1)

    def _settle(self) -> None:
        """Forget those that have left. Called with the lock."""
        while self._left:
            seat = self._left.popleft()
            self._seats.discard(seat)
            _forget(self._of_address, seat.address, seat)
            if seat.identity is not None:
                _forget(self._of_identity, seat.identity, seat)


def _forget(seats: dict[str, set[_Seat]], key: str, seat: _Seat) -> None:
    of_key = seats.get(key)
    if of_key is not None:
        of_key.discard(seat)
        if not of_key:
            del seats[key]


def _fitting(wanted: int, files: int | None) -> int:
    """Who takes more than it may open fails in `accept`, and then for everybody."""
    if files is None or wanted + OTHER_FILES <= files:
        return wanted
    return max(1, files - OTHER_FILES)
