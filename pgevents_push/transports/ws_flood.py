"""What a client may send over a WebSocket: so many bytes, frames and messages at once, then so many a second; pure."""

from __future__ import annotations

import time
from collections.abc import Callable

# Commands are small and few; 32 subscriptions at once fit many times.
BURST_MESSAGES, MESSAGES_PER_SECOND = 256, 50
BURST_IN_MAX_MESSAGES, MAX_MESSAGES_PER_SECOND = 4, 0.25  # in units of PGEVENTS_MAX_MESSAGE_BYTES
# A frame of 6 bytes costs the parser as much as one of a kilobyte, 20 us: 262 kB of them were a second of CPU.
BURST_FRAMES, FRAMES_PER_SECOND = 512, 100
# After so much silence all allowances are whole again, and need not be remembered.
FORGOTTEN_SECONDS = max(
    BURST_MESSAGES / MESSAGES_PER_SECOND,
    BURST_IN_MAX_MESSAGES / MAX_MESSAGES_PER_SECOND,
    BURST_FRAMES / FRAMES_PER_SECOND,
)


class Flood(OSError):
    """The client sent more than anybody needs to. An OSError, because that ends simple-websocket's reader."""


class Allowance:
    """A token bucket: `burst` at once, then `per_second`."""

    __slots__ = ("_at", "_burst", "_clock", "_left", "_per_second")

    def __init__(self, burst: float, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_second, self._clock = burst, per_second, clock
        self._left, self._at = burst, clock()

    def take(self, amount: float) -> bool:
        """Take from the allowance; False when it is used up."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second) - amount
        self._at = now
        return self._left >= 0


class FrameCounter:
    """Counts the frames in what a client sends, by their heads alone (RFC 6455, 5.2): cheaper than to parse them."""

    __slots__ = ("_head", "_to_come")

    def __init__(self) -> None:
        self._head = b""
        self._to_come = 0

    def feed(self, data: bytes) -> int:
        """Return how many frames' heads end in these bytes."""
        found, at = 0, 0
        data = self._head + data
        while at < len(data):
            step = min(self._to_come, len(data) - at)
            at, self._to_come = at + step, self._to_come - step
            size, self._to_come = _head(data, at) if self._to_come == 0 else (0, self._to_come)
            if size == 0:
                break
            at, found = at + size, found + 1
        self._head = data[at:]
        return found

    @property
    def is_between(self) -> bool:
        """Whether the last frame is complete, and nothing of another has come."""
        return not self._head and not self._to_come


def _head(data: bytes, at: int) -> tuple[int, int]:
    """Return the sizes of the head that begins here, 0 when it is not complete, and of the payload behind it."""
    if len(data) - at < 2:
        return 0, 0
    short = data[at + 1] & 0x7F
    extended = {126: 2, 127: 8}.get(short, 0)
    size = 2 + extended + (4 if data[at + 1] & 0x80 else 0)
    if len(data) - at < size:
        return 0, 0
    return size, int.from_bytes(data[at + 2 : at + 2 + extended], "big") if extended else short
