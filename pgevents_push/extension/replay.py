"""Replay: what a client missed, from memory or, a page at a time, from the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pgevents_push import waiting
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import BacklogError, ConnectionLost, CursorError, Overdue
from pgevents_push.event import TableName
from pgevents_push.extension.pages import Pages
from pgevents_push.extension.turns import Turns
from pgevents_push.hub import Hub, Page
from pgevents_push.listener import Batch, Connection, Reading, is_kept, with_shapes

log = logging.getLogger(__name__)

T = TypeVar("T")

# How many clients may read the log at the same time. A thousand that come back at once take turns, so that
# live changes keep most of the database and of this process.
READERS = 2
# Between two that are answered from memory: under gevent a crowd that came at once would all go before the listener.
PAUSE_SECONDS = 0.002
# So long a client may be without a word, and a socket without the changes of its other subscriptions.
PATIENCE_SECONDS = 1.0
# How many readings are remembered between two pages, up to 2.5 MB each: without, each page of a long absence counts
# again what was missed (with 160,000 changes 41 of 46 ms).
READINGS = 8
# So often PostgreSQL may fail to read a page in time, before its client is told that it was too much.
OVERDUE_READINGS = 3

_Place = tuple[Cursor, Snapshot]


class Replay:
    """Answers the question of a client that comes back.

    :param connect: opens a connection to the log.
    :param most: events in one page.
    :param page_bytes: how much of what was read from the log is kept for the next clients.
    :param watched: whether somebody must know when the columns of a table change.
    """

    def __init__(
        self,
        hub: Hub,
        connect: Callable[[], Connection],
        most: int,
        page_bytes: int = 0,
        watched: Callable[[TableName], bool] = lambda table: True,
    ) -> None:
        self._hub = hub
        self._watched = watched
        self._connect = connect
        self._most = most
        self._reading = Turns(READERS)
        # One at a time: each busy thread more keeps the one that publishes waiting for Python's own lock (5 ms).
        self._thinking = Turns(1)
        self._idle: list[Connection] = []
        self._pages = Pages(page_bytes)
        self._readings: dict[_Place, Reading] = {}
        self._overdue: dict[_Place, int] = {}
        self._closed = False

    @contextmanager
    def page(self, since: Cursor, until: Snapshot) -> Iterator[Page]:
        """Give the next changes between a cursor and a later snapshot. While it is open the others wait for their turn.
        Nothing is held between two pages: a client may take its time.

        :raises CursorError: the log does not reach back to the cursor.
        :raises ConnectionLost: the database is away.
        :raises Crowded: others are before this greenlet or thread, which is to say a word to its client and ask again.
        """
        who = threading.get_ident()
        if not self._reading.has(who):  # else memory did not reach back a moment ago
            with self._thinking.turn(who, PATIENCE_SECONDS):
                waiting.sleep(PAUSE_SECONDS)
                if (page := self._remembered(since, until) or self._pages.of(since, until)) is not None:
                    yield page
                    return
        with self._reading.turn(who, PATIENCE_SECONDS):
            # Whom it stood in line behind may have read the very page.
            yield self._pages.of(since, until) or self._pages.keep(since, until, self._from_log(since, until))

    def _remembered(self, since: Cursor, until: Snapshot) -> Page | None:
        events = self._hub.remember(since, until, self._most)
        if events is None:
            return None
        whole = len(events) < self._most
        reached = Cursor(since.epoch, until) if whole else Cursor.parse(events[-1].cursor)
        return Page(tuple(events), reached, is_shared=True)

    def _from_log(self, since: Cursor, until: Snapshot) -> Page:
        if (idle := self._waiting()) is not None:
            try:
                return self._read_on(idle, since, until)
            except Overdue:  # it lives
                raise
            except ConnectionLost as error:  # it died while it waited, and so did the others: each may take its time
                log.debug("a connection that waited for a client to come back was dead: %s", error)
                self._drop_idle()
        return self._read_on(self._connect(), since, until)

    def _waiting(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:  # not asked for before: another thread may take the last one in between
            return None

    def _read_on(self, connection: Connection, since: Cursor, until: Snapshot) -> Page:
        try:
            found = self._read(connection, since, until)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed:  # meanwhile
            self.close()
        return found

    def _read(self, connection: Connection, since: Cursor, until: Snapshot) -> Page:
        known = self._readings.get((since, until))
        # A fork: of a crowd that came back at once, several are at the same place.
        reading = known.fork() if known is not None else Reading(since, until, self._most)
        try:
            batch = reading.next(connection.execute) or Batch((), Cursor(since.epoch, until))
            batch = with_shapes(connection.execute, batch, self._watched)
            # Behind the reading: a slot that was emptied before it looked empty to it.
            kept = is_kept(connection.execute, since.snapshot)
        except Overdue:
            self._count_overdue((since, until))
            raise
        self._hub.reshape(batch.shapes)
        if not kept:
            raise CursorError("the log does not reach back to this cursor")
        _remember(self._readings, (batch.cursor, until), reading)
        return Page(batch.events, batch.cursor, batch.shapes)

    def _count_overdue(self, place: _Place) -> None:
        count = self._overdue.pop(place, 0) + 1
        if count >= OVERDUE_READINGS:
            raise BacklogError
        _remember(self._overdue, place, count)

    def forget(self) -> None:
        """Forget what was read: the log is another one, or lost its last seconds, and may give its numbers again."""
        self._pages.forget_all()
        self._readings.clear()

    def close(self) -> None:
        """Close the connections that wait for the next client, and those that are read from, when that is done."""
        self._closed = True
        self._drop_idle()

    def _drop_idle(self) -> None:
        while (connection := self._waiting()) is not None:
            connection.close()


def _remember(known: dict[_Place, T], place: _Place, value: T) -> None:
    """Remember a few, the latest."""
    known.pop(place, None)
    known[place] = value
    for oldest in list(known)[:-READINGS]:
        known.pop(oldest, None)
