"""Retention: keep the log bounded, and tell whether what a cursor has yet to see is still in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pgevents_push import waiting
from pgevents_push.chance import chance
from pgevents_push.cursor import Snapshot
from pgevents_push.errors import PGEventsError
from pgevents_push.listener.connection import Connection
from pgevents_push.listener.statements import statement

log = logging.getLogger(__name__)

Execute = Callable[..., list[tuple[Any, ...]]]

# A slot may be emptied for a fifth of the retention time before its turn comes again: a twentieth looks four times.
SHARE = 1 / 20
# The lower bound is for retention of a second or two, in tests: a look each second would miss most turns there.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 300.0
# Readers hold a slot for less than a millisecond, but each of many processes does: a few tries find it free.
TRIES, PAUSE_SECONDS = 5, 0.02


_PRUNE, _IS_KEPT = statement("prune.sql"), statement("is_kept.sql")


class Pruned(NamedTuple):
    """A slot that was due; `emptied` is False when somebody held it: its turn comes later."""

    slot: int
    about_rows: int
    emptied: bool


def prune(execute: Execute, sleep: Callable[[float], None] = waiting.sleep) -> list[Pruned]:
    """Empty the slots of the log that are due by the settings it was installed with. Safe at any time, from any
    process, next to writers, readers and dumps.

    :param execute: runs one statement in a transaction of its own.
    """
    found: dict[int, Pruned] = {}
    for attempt in range(TRIES):
        if attempt:
            sleep(PAUSE_SECONDS)
        found.update((row[0], Pruned(*row)) for row in execute(_PRUNE))
        if all(pruned.emptied for pruned in found.values()):
            break
    return list(found.values())


def is_kept(execute: Execute, snapshot: Snapshot) -> bool:
    """Whether nothing that is not visible in the snapshot was emptied out of the log. False is a gap.

    Ask it after the reading: what it says holds for all that was read before. Of a cursor inside a batch, ask
    for the lower snapshot. Its one wrong No: a transaction that was open for longer than the log keeps, and ended
    between the cursor and the latest emptying.
    """
    [(kept,)] = execute(_IS_KEPT, {"xmax": str(snapshot.xmax), "xip": [str(xid) for xid in snapshot.xip]})
    return bool(kept)


class Pruner:
    """Prunes now and then, in the background and on a connection of its own: to empty a slot takes milliseconds,
    on a bad day seconds, for which the listener has better use.

    :param seconds: PGEVENTS_RETENTION_SECONDS; how often it prunes follows from it.
    :param timeout: seconds within which the server must answer.
    """

    def __init__(
        self,
        dsn: Mapping[str, Any],
        seconds: float,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = chance,
    ) -> None:
        self._dsn = dsn
        self._timeout = timeout
        self._every = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, seconds * SHARE))
        self._clock, self._chance = clock, chance
        # Not at once: a restart of a hundred processes is busy enough.
        self._due = clock() + self._every * chance()
        self._task: waiting.Task | None = None
        self._busy = False
        self._said: str | None = None

    def look(self) -> None:
        """Start pruning when it is time and none is under way. Returns at once; the listener calls it each round."""
        if not self._busy and self._clock() >= self._due:
            self._busy = True
            self._task = waiting.spawn(self._prune, name="pgevents-prune")

    def stop(self, timeout: float = 1.0) -> None:
        """Start nothing more, and wait for what is under way. Nothing is: returns at once.

        :param timeout: seconds; a pruning that takes longer ends by itself, with the server's answer.
        """
        self._due = float("inf")
        if self._task is not None:
            self._task.join(timeout)

    def _prune(self) -> None:
        try:
            self._note(self._once())
        except PGEventsError as error:
            self._say(logging.WARNING, f"the log was not pruned: {error}")
        finally:
            if self._due != float("inf"):
                self._due = self._clock() + self._every * (0.5 + self._chance())
            self._busy = False

    def _once(self) -> list[Pruned]:
        connection = Connection(self._dsn, self._timeout)
        try:
            return prune(connection.execute)
        finally:
            connection.close()

    def _note(self, found: list[Pruned]) -> None:
        held = [pruned.slot for pruned in found if not pruned.emptied]
        emptied = [pruned for pruned in found if pruned.emptied]
        if emptied:
            rows = sum(pruned.about_rows for pruned in emptied)
            log.info("emptied %d slots of the log, about %d changes", len(emptied), rows)
        if held:
            self._say(logging.INFO, "an old slot of the log is held by a long transaction; it is emptied later")
        else:
            self._said = None

    def _say(self, level: int, text: str) -> None:
        """Log, but not the same thing every time."""
        if text != self._said:
            log.log(level, "%s", text)
        self._said = text
