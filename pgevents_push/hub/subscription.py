"""Subscription: the bounded mailbox of one connection, with a named end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Literal

# Why a mailbox was closed. "overflow": the client is too slow; "departed": it left; "shutdown": we leave;
# "failed": a bug of ours; "lost": the log does not go on where we were.
CloseReason = Literal["overflow", "departed", "shutdown", "failed", "lost"]


class Subscription:
    """Frames for one connection, put by the hub and taken by one courier.

    Bounded in bytes: a client that does not take its frames is closed with "overflow", so that it can
    never slow another one down; it reconnects and says where it was.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.queued_bytes = 0
        self.closed: CloseReason | None = None
        self._frames: deque[bytes] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._poked = False

    def put(self, frame: bytes) -> bool:
        """Add a frame; return False when the mailbox is closed or just overflowed."""
        with self._changed:
            if self.closed:
                return False
            # One frame always fits, however large: else a row larger than the cap could never be delivered.
            if self._frames and self.queued_bytes + len(frame) > self.max_bytes:
                self.closed = "overflow"
            else:
                self._frames.append(frame)
                self.queued_bytes += len(frame)
            self._changed.notify()
            return self.closed is None

    def take(self, timeout: float | None) -> list[bytes]:
        """Return all waiting frames; none after `timeout` seconds, when closed, or when poked."""
        with self._changed:
            if not self._frames and not self.closed and not self._poked:
                self._changed.wait(timeout)
            self._poked = False
            frames = list(self._frames)
            self._frames.clear()
            self.queued_bytes = 0
            return frames

    def poke(self) -> None:
        """Wake the courier without a frame: it has something else to look at."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def close(self, reason: CloseReason) -> None:
        """End the stream. What is queued may still be taken. Already closed: does nothing."""
        with self._changed:
            self.closed = self.closed or reason
            self._changed.notify()

    def put_all(self, frames: Iterable[bytes]) -> None:
        """Add several frames in order; stops at the first that does not fit."""
        for frame in frames:
            if not self.put(frame):
                return
