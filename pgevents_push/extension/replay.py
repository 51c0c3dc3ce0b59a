"""Replay: what a client missed, from memory or, a page at a time, from the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import ConnectionLost, CursorError
from pgevents_push.hub import Hub, Page
from pgevents_push.listener import Connection, is_kept, read_between

log = logging.getLogger(__name__)

# How many clients may read the log at the same time. A thousand that come back at once take turns, so that
# live changes keep most of the database and of this process.
READERS = 2


class Replay:
    """Answers the question of a client that comes back.

    :param connect: opens a connection to the log.
    :param most: events in one page.
    """

    def __init__(self, hub: Hub, connect: Callable[[], Connection], most: int) -> None:
        self._hub = hub
        self._connect = connect
        self._most = most
        self._turns = threading.BoundedSemaphore(READERS)
        # One at a time: each busy thread more keeps the one that publishes waiting for Python's own lock (5 ms).
        self._thinking = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    def page(self, since: Cursor, until: Snapshot) -> Page:
        """Return the next changes between a cursor and a later snapshot. Nothing is held between two pages:
        a client may take its time.

        :raises CursorError: the log does not reach back to the cursor.
        :raises ConnectionLost: the database is away.
        """
        with self._thinking:
            remembered = self._hub.remember(since, until, self._most)
        if remembered is not None:
            whole = len(remembered) < self._most
            return Page(tuple(remembered), Cursor(since.epoch, until) if whole else Cursor.parse(remembered[-1].cursor))
        with self._turns:
            while (idle := self._waiting()) is not None:
                try:
                    return self._read_on(idle, since, until)
                except ConnectionLost as error:  # it died while it waited
                    log.debug("a connection that waited for a client to come back was dead: %s", error)
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
        page = Page((), Cursor(since.epoch, until))
        for batch in read_between(connection.execute, since, until, self._most):
            page = Page(batch.events, batch.cursor)
            break
        # Behind the reading: a slot that was emptied before it looked empty to it.
        if not is_kept(connection.execute, since.snapshot):
            raise CursorError("the log does not reach back to this cursor")
        return page

    def close(self) -> None:
        """Close the connections that wait for the next client, and those that are read from, when that is done."""
        self._closed = True
        while (connection := self._waiting()) is not None:
            connection.close()
