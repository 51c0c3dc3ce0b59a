"""Listener: connect, LISTEN, catch up, then live; reconnects for ever. One per process and app."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pgevents_push import waiting
from pgevents_push.cursor import Cursor
from pgevents_push.errors import ConnectionLost, CursorError, Overdue, PGEventsError
from pgevents_push.event import TableName
from pgevents_push.listener.backoff import delay
from pgevents_push.listener.batch import Batch
from pgevents_push.listener.connection import Connection
from pgevents_push.listener.doorbell import Doorbell, Wakeup
from pgevents_push.listener.pulse import Pulse
from pgevents_push.listener.reader import read_position, read_since
from pgevents_push.listener.retention import is_kept
from pgevents_push.listener.shapes import with_shapes
from pgevents_push.listener.wake import Wake

# So long without a reading, the log may have been emptied under us.
ABSENCE_SECONDS = 5.0
# So often in a row PostgreSQL may fail to finish our reading in time, before it is too much and given up.
OVERDUE_READINGS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ears:
    """What a listener needs from outside, and whom it tells.

    :param prepare: run before the log is first read on each new connection: makes sure that it exists.
    :param on_batch: takes the changes, in order.
    :param on_lost: told when changes may have been missed: another database, or a log that was emptied.
    :param on_round: called each time round the loop; must return at once.
    :param watched: whether somebody must know when the columns of a table change.
    """

    dsn: Mapping[str, Any]
    prepare: Callable[[], None]
    on_batch: Callable[[Batch], None]
    on_lost: Callable[[], None]
    on_round: Callable[[], None]
    watched: Callable[[TableName], bool]
    poll_seconds: float
    heartbeat_seconds: float
    timeout_seconds: float
    max_batch_events: int
    wakeup: Wakeup = "notify"


class Listener:
    """The loop. `start` returns at once; `stop` ends it and waits; both may be called twice."""

    def __init__(self, ears: Ears, pulse: Pulse) -> None:
        self._ears = ears
        self._pulse = pulse
        self._cursor: Cursor | None = None
        self._read_at = time.monotonic()
        self._connection: Connection | None = None
        self._stopping = False
        self._attempts = 0
        self._overdue = 0
        self._pid = os.getpid()
        self._task: waiting.Task | None = None
        self._wake = Wake()

    def start(self) -> None:
        """Run in the background. Running already: does nothing."""
        if self._task is None:
            self._task = waiting.spawn(self._run, name="pgevents-listener")

    def stop(self, timeout: float = 5.0) -> None:
        """End the loop and close its connection. Not started, or stopped already: does nothing.

        :param timeout: seconds to wait for a read that is under way.
        """
        self._stopping = True
        self._wake.set()
        if (connection := self._connection) is not None:
            connection.interrupt()
        if self._task is not None:
            self._task.join(timeout)
            self._pulse.beat("stopped")

    def _run(self) -> None:
        self._pid = os.getpid()
        while not self._ended:
            try:
                self._listen()
            except CursorError as error:
                self._lost(str(error))
            except Overdue as error:
                self._after_overdue(str(error))
            except PGEventsError as error:
                self._after_failure(str(error))
            except Exception as error:  # the loop's outermost handler: whatever happens, listening goes on
                log.exception("the listener failed; it reconnects")
                self._after_failure(f"{type(error).__name__}: {error}")
            self._attempts += 1
            if not self._ended:
                waiting.wait_any((self._wake.fileno(),), (), delay(self._attempts))
        self._wake.close()

    @property
    def _ended(self) -> bool:
        """Stopped; or a forked child, which under gevent runs a copy of this loop."""
        return self._stopping or self._pid != os.getpid()

    def _after_failure(self, error: str) -> None:
        if not self._ended:
            self._pulse.beat("reconnecting", error)

    def _after_overdue(self, error: str) -> None:
        """What cannot be read in time now, tens of millions of changes for example, will not be in an hour."""
        self._overdue += 1
        if self._overdue >= OVERDUE_READINGS:
            self._lost(error)
        self._after_failure(error)

    def _lost(self, why: str) -> None:
        log.error("changes may have been missed, going on from now: %s", why)
        self._cursor = None
        self._ears.on_lost()

    def _listen(self) -> None:
        ears = self._ears
        ears.prepare()
        self._connection = connection = Connection(ears.dsn, ears.timeout_seconds)
        try:
            doorbell = Doorbell(connection, ears.poll_seconds, ears.wakeup)
            doorbell.hang()
            self._catch_up(connection)
            self._attempts = 0  # the delay grows only while attempts fail in a row
            self._stay(connection, doorbell)
        finally:
            self._connection = None
            connection.close()

    def _catch_up(self, connection: Connection) -> None:
        """The first connection starts from now; a later one from where the last one was lost. That may lie ahead of
        the log, in a database that went back to what it was: from a snapshot of its disk, in the same timeline."""
        position = read_position(connection.execute)
        goes_on = self._cursor is not None and self._cursor.epoch == position.epoch and position.is_past(self._cursor)
        if not goes_on:
            if self._cursor is not None:
                self._lost("this is another database, or one that was restored")
            self._cursor = position
            self._ears.on_batch(Batch((), position))
        self._read(connection)

    def _stay(self, connection: Connection, doorbell: Doorbell) -> None:
        checked, found = 0.0, 0
        while not self._stopping:
            if time.monotonic() - checked > self._ears.heartbeat_seconds:
                self._pulse.beat("listening" if doorbell.is_hanging() else "deaf", doorbell.deaf)
                checked = time.monotonic()
            self._ears.on_round()
            doorbell.wait(found)
            self._pulse.note_overslept(connection.take_overslept())
            if not self._stopping:
                found = self._read(connection)

    def _read(self, connection: Connection) -> int:
        """Read on from the cursor, which moves only once a batch was handed on: a read that fails half-way is
        continued, not repeated. Return how many transactions there were."""
        found, start, before = 0, self._cursor, self._read_at
        if start is None:
            raise ConnectionLost("the listener has no position yet")
        for batch in read_since(connection.execute, start, self._ears.max_batch_events):
            self._ears.on_batch(with_shapes(connection.execute, batch, self._ears.watched))
            self._cursor = batch.cursor
            found += sum(event.last for event in batch.events)
        self._pulse.note_read()
        self._overdue = 0
        self._read_at = time.monotonic()
        # After an absence, and behind the reading: a slot of the log that was emptied meanwhile looked empty to it.
        if self._read_at - before > ABSENCE_SECONDS and not is_kept(connection.execute, start.snapshot):
            raise CursorError("the log was emptied before this process had read all of it")
        return found
