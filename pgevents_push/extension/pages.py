"""Pages: what was read from the log for one client that came back, for the next ones at the same place; pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.hub import Page, weight

# Clients that come back together, after a deploy, come within seconds.
MOST_SECONDS = 10.0
# A last page with fewer changes is read anew for each client. Else a crowd that comes back while changes are written
# would go from the end of one tiny page to the end of the next, one more with each client.
FEW = 50


class _Kept(NamedTuple):
    """A page with when it was read, how far the reading goes, and roughly how many bytes it takes."""

    at: float
    until: Snapshot
    size: int
    page: Page


class Pages:
    """Of a crowd that comes back at once, only the first one has the log read.

    A page that was read up to some snapshot will do for whoever is at its beginning and wants to get to that snapshot
    or further: all cursors in it, and the one behind it, are those of a reading that goes there first. It stays true:
    what it holds is committed, and was complete when it was read.

    :param max_bytes: roughly what all of them may take; then the oldest go first.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._lock = threading.Lock()
        self._kept: dict[Cursor, _Kept] = {}  # the oldest first
        self._size = 0

    def of(self, since: Cursor, until: Snapshot) -> Page | None:
        """Return what begins at a cursor and reaches no further than a snapshot, if there is any."""
        with self._lock:
            self._forget()
            kept = self._kept.get(since)
            return kept.page if kept is not None and until.covers(kept.until) else None

    def keep(self, since: Cursor, until: Snapshot, page: Page) -> Page:
        """Take a page that was read; return it as it is for all, itself where it is not worth keeping."""
        is_last = page.cursor.until is None
        if (is_last and len(page.events) < FEW) or (size := sum(map(weight, page.events))) > self._max_bytes:
            return page
        kept = _Kept(self._clock(), until, size, page.for_all())
        with self._lock:
            self._drop(since)
            self._size += size
            self._kept[since] = kept
            self._forget()
        return kept.page

    def forget_all(self) -> None:
        """Drop what is kept: the log is another one."""
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _forget(self) -> None:
        """Drop the oldest ones, of those that are too old or too many."""
        too_old = self._clock() - MOST_SECONDS
        while self._kept and (self._size > self._max_bytes or next(iter(self._kept.values())).at < too_old):
            self._drop(next(iter(self._kept)))

    def _drop(self, since: Cursor) -> None:
        if (known := self._kept.pop(since, None)) is not None:
            self._size -= known.size
