"""Subscription: the bounded mailbox of one connection, with a named end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Literal, Protocol

from pgevents_push.hub.pending import Pending

# Why a mailbox was closed. "overflow": the client is too slow; "departed": it left; "shutdown": we leave;
# "failed": a bug of ours; "lost": the log does not go on where we were; "schema": the columns are not what they were;
# "revoked": its owner may no longer be here; "lifetime": it is time to be authorised anew;
# "uncaptured": the changes of a table are not in the log, and nobody knows when they will be.
CloseReason = Literal[
    "overflow", "departed", "shutdown", "failed", "lost", "schema", "revoked", "lifetime", "uncaptured"
]


class Mailbox(Protocol):
    """What the hub puts frames into. Neither call may wait, or call the hub."""

    closed: CloseReason | None

    @property
    def opened_at(self) -> float: ...

    @property
    def queued_bytes(self) -> int: ...

    def put(self, frame: bytes | Pending) -> int:
        """Add a frame; return how many clients will get it, 0 when it was closed or just overflowed."""
        ...

    def close(self, reason: CloseReason) -> None:
        """End it, for this reason. Closed already: does nothing."""
        ...


class Subscription:
    """Frames for one connection, put by the hub and taken by one courier. One that is pending keeps its place, and
    those behind it waiting.

    Bounded in bytes: a client that does not take its frames is closed with "overflow", so that it can
    never slow another one down; it reconnects and says where it was.

    No Condition: under gevent each `notify` of one over a plain lock lets all others run, here in the middle of
    `publish`, and couriers would send frame by frame what could be one write.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.queued_bytes = 0
        self.opened_at = time.monotonic()
        self.closed: CloseReason | None = None
        self._frames: deque[bytes | Pending] = deque()
        self._lock = threading.Lock()
        self._awake = threading.Event()  # there is something to take, or to look at

    def put(self, frame: bytes | Pending) -> int:
        """Add a frame; return 0 when the mailbox is closed or just overflowed, else 1."""
        with self._lock:
            if self.closed:
                return 0
            size = size_of(frame)
            # One frame always fits, however large: else a row larger than the cap could never be delivered.
            if self._frames and self.queued_bytes + size > self.max_bytes:
                self.closed = "overflow"
            else:
                self._frames.append(frame)
                self.queued_bytes += size
            self._wake()
            taken = self.closed is None
        if taken and not isinstance(frame, bytes):
            frame.watch(self._notice)
            if frame.is_ready:  # it may have become so just before we watched, where it comes from another mailbox
                self._notice()
        return int(taken)

    def _notice(self) -> None:
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        if not self._awake.is_set() and (self.closed or self._is_ready()):
            self._awake.set()

    def take(self, timeout: float | None) -> list[bytes]:
        """Return all waiting frames; none after `timeout` seconds, when closed, or when poked."""
        if timeout != 0:
            self._awake.wait(timeout)
        with self._lock:
            frames: list[bytes] = []
            while self._is_ready():
                frames += self._first()
            if not self.closed:
                self._awake.clear()
            return frames

    def _is_ready(self) -> bool:
        return bool(self._frames) and (isinstance(self._frames[0], bytes) or self._frames[0].is_ready)

    def _first(self) -> list[bytes]:
        first = self._frames.popleft()
        self.queued_bytes -= size_of(first)
        if isinstance(first, bytes):
            return [first]
        return [] if first.frame is None else [first.frame]

    @property
    def is_pending(self) -> bool:
        """Whether something in it is not ready to be taken."""
        with self._lock:
            return any(not isinstance(frame, bytes) and not frame.is_ready for frame in self._frames)

    def move_to(self, other: Subscription) -> None:
        """Put all that waits here, pending or not, into another mailbox."""
        with self._lock:
            frames = list(self._frames)
            self._frames.clear()
            self.queued_bytes = 0
        other.put_all(frames)

    def poke(self) -> None:
        """Wake the courier without a frame: it has something else to look at."""
        with self._lock:
            self._awake.set()

    def close(self, reason: CloseReason) -> None:
        """End the stream. What is queued may still be taken. Already closed: does nothing."""
        with self._lock:
            self.closed = self.closed or reason
            self._wake()

    def put_all(self, frames: Iterable[bytes | Pending]) -> None:
        """Add several frames in order; stops at the first that does not fit."""
        for frame in frames:
            if not self.put(frame):
                return


def size_of(frame: bytes | Pending) -> int:
    """Return how many bytes a frame counts as."""
    return len(frame) if isinstance(frame, bytes) else frame.size
