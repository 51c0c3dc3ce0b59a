"""Arming: telling writers that this listener is about to sleep, so that none of their commits is missed.

NOTIFY makes all commits of a cluster take turns, so writers ring only for a listener that sleeps. That one holds
an advisory lock in share mode; a writer inserts into the log, then probes that lock, and rings if it is held.
Between "I read everything" and "I sleep" a commit must not slip through. So the listener

1. takes the lock;
2. notes who has written the log and not ended yet (a writer keeps its lock on the log until it is visible);
3. reads the log;
4. looks whether those have ended, and only then reads again, until none is left;
5. asks libpq for what has arrived already; and
6. sleeps on the socket.

Why that is enough. Every transaction probes once, after its first insert; what matters is when:

| the writer inserts | it probes | rings | at step 2 it is | its changes are seen by |
|---|---|---|---|---|
| before 2 | before 1, commits before 2 | no | gone, and visible | the read of 3 |
| before 2 | before 1, commits later | no | noted | the read that follows the look of 4 that misses it |
| before or after 2 | after 1 | yes | noted or not | the read after its ring, which 5 or 6 hears |

No row is left: who probed before 1 has inserted before 1, hence before 2. Sleeping again after a ring needs no new
arming: the lock was held all the time, and nobody who probed without it is left.

* A savepoint that is rolled back takes the writer's note, its ring and its lock on the log; the next write probes anew.
* PREPARE TRANSACTION gives the lock to a transaction of another name. It never rings (PostgreSQL refuses to prepare
  one that did), so any prepared writer counts as noted, whatever its name.
* Noting the snapshot's xmax instead of the holders forgets transactions: it is one past the last *completed*
  transaction, not the next one (measured: changes up to 371 ms late; with this rule 23 ms).
* The lock is only ever tried: another session that holds it exclusively keeps us awake, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pgevents_push.listener.statements import statement

# "doorbell" as a number, as in capture/sql/ring.sql; nobody else locks it.
LOCK = int.from_bytes(b"doorbell", "big")

_WRITING = statement("writing.sql")

Execute = Callable[..., Sequence[tuple[Any, ...]]]


class Arming:
    """The lock of one session. `armed`: it is held, so whoever probes from now on rings. `settled`: nobody is left
    who probed before: after one more read the listener may sleep."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute
        self._noted: frozenset[str] = frozenset()
        self.armed = False
        self.settled = False

    def arm(self) -> bool:
        """Steps 1 and 2; the caller has to read the log now. False: somebody is in the way, nothing was done."""
        [(self.armed,)] = self._execute("SELECT pg_try_advisory_lock_shared(%s)", [LOCK])
        if self.armed:
            self._noted = self._writing()
            self.settled = not self._noted
        return self.armed

    def look(self) -> bool:
        """Step 4; return whether one of the noted has ended: then the caller has to read the log now."""
        before, self._noted = self._noted, self._writing(self._noted)
        self.settled = not self._noted
        return self._noted != before

    def disarm(self) -> None:
        """Give the lock back. Not armed: does nothing."""
        if self.armed:
            self.armed = self.settled = False
            self._execute("SELECT pg_advisory_unlock_shared(%s)", [LOCK])

    def _writing(self, among: frozenset[str] | None = None) -> frozenset[str]:
        """Return who is writing; of these only, and of the prepared ones, which have changed their names."""
        found = self._execute(_WRITING)
        return frozenset(name for name, prepared in found if among is None or prepared or name in among)
