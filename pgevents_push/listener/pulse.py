"""Pulse: the listener's health as one word, proved by what it last did."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

log = logging.getLogger(__name__)

# starting: no position yet; listening: the bell hangs and the log is read; deaf: the log is read, but the server
# forgot our LISTEN (a transaction pooler does); reconnecting; stopped.
Status = Literal["starting", "listening", "deaf", "reconnecting", "stopped"]


class Pulse:
    """The current word, why, and who wants to know of a change. `reconnects`: how often the connection was lost."""

    def __init__(
        self, on_change: Callable[[Status, str | None], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.status: Status = "starting"
        self.error: str | None = None
        self.reconnects = 0
        self._clock = clock
        self._read_at: float | None = None
        self._on_change = on_change

    def beat(self, status: Status, error: str | None = None) -> None:
        """Set the word. Tells and logs only a change: reconnecting for an hour is one line."""
        changed, self.status, self.error = status != self.status, status, error
        if changed:
            self.reconnects += status == "reconnecting"
            level = logging.WARNING if status in ("deaf", "reconnecting") else logging.INFO
            log.log(level, "listener is %s%s", status, f": {error}" if error else "", extra={"status": status})
            self._on_change(status, error)

    def note_read(self) -> None:
        """The log was read to its end."""
        self._read_at = self._clock()

    @property
    def seconds_since_read(self) -> float | None:
        """How long ago that was; None when it never was."""
        return None if self._read_at is None else self._clock() - self._read_at
