"""Shipment: rows of one moment on their way from the database to one client; bounded, with a named end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pgevents_push.cursor import Cursor
from pgevents_push.errors import PGEventsError
from pgevents_push.event import TableName


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table, as JSON. Each table has a first chunk and a last one, which may be the same."""

    table: TableName
    rows: tuple[str, ...]
    first: bool
    last: bool


class Shipment:
    """Filled by who reads the database, which waits while it is full; emptied by one courier, which does not wait
    here but is woken.

    `cursor` is the moment that the rows are of; None before it is known. `done`: all of them were taken.

    :param encode: makes the frame of a chunk.
    :param max_bytes: how much may wait for the client; one frame always fits.
    :param wake: called when there is something new, from another greenlet or thread.
    """

    def __init__(self, encode: Callable[[Chunk], bytes], max_bytes: int, wake: Callable[[], None]) -> None:
        self.cursor: Cursor | None = None
        self.closed = False
        self._encode = encode
        self._max_bytes = max_bytes
        self._wake = wake
        self._frames: deque[bytes] = deque()
        self._held = 0
        self._complete = False
        self._error: PGEventsError | None = None
        self._changed = threading.Condition()

    def begin(self, cursor: Cursor) -> None:
        """Tell of which moment the rows are."""
        self.cursor = cursor
        self._wake()

    def put(self, chunk: Chunk, timeout: float) -> bool:
        """Add rows. Return False when there was no room for them within `timeout` seconds, or `closed`."""
        frame = self._encode(chunk)
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._fits(frame), timeout)
            if self.closed or not self._fits(frame):
                return False
            self._frames.append(frame)
            self._held += len(frame)
        self._wake()
        return True

    def _fits(self, frame: bytes) -> bool:
        return not self._frames or self._held + len(frame) <= self._max_bytes

    def finish(self) -> None:
        """There are no more rows."""
        self._complete = True
        self._wake()

    def fail(self, error: PGEventsError) -> None:
        """The rest will not come: forget what waits. `take` raises the error."""
        with self._changed:
            self._error = error
            self._frames.clear()
        self._wake()

    def take(self) -> bytes | None:
        """Return the next frame; None while there is none.

        :raises PGEventsError: why there will be none, as `fail` was told.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if not self._frames:
                return None
            frame = self._frames.popleft()
            self._held -= len(frame)
            self._changed.notify()
            return frame

    @property
    def done(self) -> bool:
        return self._complete and not self._frames

    def close(self) -> None:
        """Nobody wants it any more. Closed already: does nothing."""
        with self._changed:
            self.closed = True
            self._frames.clear()
            self._changed.notify()
