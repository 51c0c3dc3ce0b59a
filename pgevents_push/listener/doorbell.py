"""The doorbell: how a listener that has read everything learns that there is more.

The bell is an empty NOTIFY on one channel. It carries nothing: it is not secret, anybody may ring it, and it may get
lost. So it only ever means "look into the log", and the log is looked into every `poll_seconds` anyway. A listener

* sleeps while there is little to do: armed (see arming.py), so each writing transaction rings, and is read at once;
* stays awake while there is much to do, or writers queue to ring: not armed, nobody rings, and reads each 5 to 15 ms;
* polls when rings cannot reach it: PGEVENTS_WAKEUP = "poll", or a transaction pooler that forgets our LISTEN.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from pgevents_push.listener.arming import Arming
from pgevents_push.listener.connection import Heard
from pgevents_push.listener.pace import Allowance, Pause, Tempo
from pgevents_push.listener.statements import statement

CHANNEL = "pgevents"

_QUEUE = statement("queue.sql")

Wakeup = Literal["notify", "poll"]

# Awake: a read of nothing takes 0.3 ms, so the shortest pause is 6 % of a core; a change waits half of it on average.
AWAKE_SECONDS, BUSY_SECONDS = 0.005, 0.015
# Rings are answered at once up to 200 a second, with bursts. A NOTIFY costs writers little then, unless they queue:
# whoever rings commits alone, so on a slow disk (5 ms) 32 writers ring no more often and keep 0.1 of their throughput.
BURST = 10
# So soon after another a ring may be one of a queue. To look costs more than half of what a read costs, so it is done
# for the first such ring and for each fourth from then on; and quiet writers do not pay it.
HURRY_SECONDS, HURRIES = 0.05, 4
# After so many reads of nothing in a row (50 ms) it goes to sleep.
QUIET_READS = 10
# How often it is looked whether those who wrote before we slept have ended.
SETTLE_SECONDS = (0.01, 0.1)
# PGEVENTS_WAKEUP = "poll": soon after a change there may be another one.
POLL_SECONDS = (0.01, 0.25)
# So many reads in a row that found what nobody had rung for: a pooler or proxy swallows the rings.
SWALLOWED = 2

FORGETS = (
    "a pooler in transaction mode stands before PostgreSQL and would forget our LISTEN: the log is read each 10 to"
    " 250 ms instead. Give PGEVENTS_DATABASE_URL a direct address, or say that this is wanted: PGEVENTS_WAKEUP = 'poll'"
)
FORGOT = "our LISTEN is gone: the log is read each 10 to 250 ms instead. See: flask pgevents doctor"
SWALLOWS = "changes come that nobody rings for: the log is read each 10 to 250 ms. See: flask pgevents doctor"


class Line(Protocol):
    """What the doorbell needs of a Connection."""

    def execute(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]: ...
    def is_shared(self) -> bool: ...
    def wait(self, timeout: float) -> Heard: ...
    def pause(self, timeout: float) -> Heard: ...


class Doorbell:
    """The bell of one connection. The owner reads the log each time that `wait` returns. `deaf` tells why rings do
    not reach us; None while they do, as far as is known.

    :param poll_seconds: the longest that `wait` takes.
    :param wakeup: "poll" never listens and never lets anybody ring.
    """

    def __init__(
        self,
        connection: Line,
        poll_seconds: float,
        wakeup: Wakeup = "notify",
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        self._connection = connection
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._wakeup = wakeup
        self.deaf: str | None = None
        self._arming = Arming(connection.execute)
        self._allowance = Allowance(AWAKE_SECONDS, BURST, clock)
        self._tempo = Tempo(AWAKE_SECONDS, BUSY_SECONDS, clock, used)
        self._polling = Pause(POLL_SECONDS[0], min(POLL_SECONDS[1], poll_seconds))
        self._settling = Pause(*SETTLE_SECONDS)
        self._quiet = QUIET_READS  # it begins with going to sleep
        self._slept_through = False
        self._swallowed = 0
        self._rung_at = -HURRY_SECONDS
        self._hurried = 0  # how many rings in a row came soon after another

    def hang(self) -> None:
        """LISTEN. Only what is committed after this is rung for: read the log after it, not before.

        Never through a pooler in transaction mode, where LISTEN and the lock of arming would stay behind in a session
        of somebody else: writers would ring for ever, for nobody.
        """
        if self._wakeup == "notify":
            if self._connection.is_shared():
                self.deaf = FORGETS
            else:
                self._connection.execute(f"LISTEN {CHANNEL}")

    def is_hanging(self) -> bool:
        """Whether rings reach us, as far as is known. Asks for our LISTEN: the one check that notices a hung server,
        a dead network and a transaction pooler alike. Once deaf, a connection stays so: a pooler forgets at random."""
        listening = (CHANNEL,) in self._connection.execute("SELECT pg_listening_channels()")
        if not listening and self._wakeup == "notify":
            self._go_deaf(FORGOT)
        return self.deaf is None

    def wait(self, found: int, longest: float | None = None) -> None:
        """Return when the log is to be read.

        :param found: how many transactions the last read found.
        :param longest: seconds, when less than `poll_seconds`.
        """
        limit = self._poll_seconds if longest is None else min(longest, self._poll_seconds)
        self._count_swallowed(found)
        if self._wakeup == "poll" or self.deaf:
            self._poll(found, limit)
        elif self._arming.armed:
            self._sleep(limit)
        else:
            self._stay_awake(found, limit)

    def leave(self) -> None:
        """Let nobody ring, until `wait` is called again: for an owner that goes away to do something else."""
        self._arming.disarm()
        self._quiet = QUIET_READS

    def _poll(self, found: int, limit: float) -> None:
        if found:
            self._polling.reset()
        self._connection.pause(min(limit, self._polling.next()))

    def _stay_awake(self, found: int, limit: float) -> None:
        self._quiet = 0 if found else self._quiet + 1
        self._allowance.take()
        if self._quiet >= QUIET_READS and self._arming.arm():
            self._settling.reset()
            return
        self._connection.pause(min(limit, self._tempo.next(found)))

    def _sleep(self, limit: float) -> None:
        if self._hurried % HURRIES == 1 and self._connection.execute(_QUEUE) == [(True,)]:
            self._wake_up(limit)
            return
        settled = self._arming.settled
        heard = self._connection.wait(limit) if settled else self._settle(limit)
        self._slept_through = settled and heard == "silent"
        if heard == "rung":
            self._swallowed = 0
            before, self._rung_at = self._rung_at, self._clock()
            self._hurried = self._hurried + 1 if self._rung_at - before < HURRY_SECONDS else 0
            if not self._allowance.take():
                self._wake_up(limit)

    def _wake_up(self, limit: float) -> None:
        self._arming.disarm()
        self._quiet, self._hurried = 0, 0
        self._connection.pause(min(limit, AWAKE_SECONDS))

    def _settle(self, limit: float) -> Heard:
        ends = self._clock() + limit
        while (left := ends - self._clock()) > 0:
            heard = self._connection.wait(min(left, self._settling.next()))
            # The look comes before the read, which follows when this returns.
            if self._arming.look() or heard != "silent":
                return heard
        return "silent"

    def _count_swallowed(self, found: int) -> None:
        self._swallowed += bool(found and self._slept_through)
        self._slept_through = False
        if self._swallowed >= SWALLOWED:
            self._go_deaf(SWALLOWS)

    def _go_deaf(self, why: str) -> None:
        self.deaf = self.deaf or why
        self._arming.disarm()
