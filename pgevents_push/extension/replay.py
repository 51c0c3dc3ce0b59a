"""Replay: what a client missed, from memory or, a page at a time, from the log."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import CursorError
from pgevents_push.hub import Hub, Page
from pgevents_push.listener import Connection, is_kept, read_between

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
        self._idle: list[Connection] = []

    def page(self, since: Cursor, until: Snapshot) -> Page:
        """Return the next changes between a cursor and a later snapshot. Nothing is held between two pages:
        a client may take its time.

        :raises CursorError: the log does not reach back to the cursor.
        :raises ConnectionLost: the database is away.
        """
        remembered = self._hub.remember(since, until, self._most)
        if remembered is not None:
            reached = Cursor.parse(remembered[-1].cursor) if remembered else Cursor(since.epoch, until)
            return Page(tuple(remembered), reached)
        with self._turns:
            connection = self._idle.pop() if self._idle else self._connect()
            try:
                found = self._read(connection, since, until)
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
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
        """Close the connections that wait for the next client."""
        while self._idle:
            self._idle.pop().close()
