"""Pulse: the listener's health as one word, proved by what it last did."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

log = logging.getLogger(__name__)

# starting: no position yet; listening: the bell hangs and the log is read; deaf: the log is read, but the server
# forgot our LISTEN (a transaction pooler does); reconnecting; stopped.
Status = Literal["starting", "listening", "deaf", "reconnecting", "stopped"]


class Pulse:
    """The current word, why, and who wants to know of a change."""

    def __init__(self, on_change: Callable[[Status, str | None], None]) -> None:
        self.status: Status = "starting"
        self.error: str | None = None
        self._on_change = on_change

    def beat(self, status: Status, error: str | None = None) -> None:
        """Set the word. Tells and logs only a change: reconnecting for an hour is one line."""
        changed, self.status, self.error = status != self.status, status, error
        if changed:
            level = logging.WARNING if status in ("deaf", "reconnecting") else logging.INFO
            log.log(level, "listener is %s%s", status, f": {error}" if error else "", extra={"status": status})
            self._on_change(status, error)
