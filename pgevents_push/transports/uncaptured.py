"""Uncaptured: how long a client waits for a table that is not captured, and what it is told then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pgevents_push.errors import Unavailable
from pgevents_push.event import TableName
from pgevents_push.hub import Hub, View
from pgevents_push.transports.showing import RETRY_AFTER_SECONDS

# A table that appears is looked for every 15 s at least (extension/captured.py): it is captured before this is over.
WAIT_SECONDS = 20.0
LOOK_SECONDS = 5.0  # how often a stream, which is not woken for it, looks whether that is so


class Patience:
    """That of one client with its tables. It has as much as it takes with a listener that has no position: that is the
    database's fault, and over when it comes back."""

    def __init__(self, hub: Hub, views: Iterable[View], clock: Callable[[], float] = time.monotonic) -> None:
        self._hub, self._views, self._clock = hub, views, clock
        self._since: float | None = None
        self.words: dict[str, str] = {}  # what more there is to say, once it is over

    def exhausted_by(self) -> TableName | None:
        """The table that it has waited for in vain; None: it goes on waiting."""
        lacking = self._lacking()
        if lacking is None:
            self._since = None
            return None
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since < WAIT_SECONDS:
            return None
        self.words = {"detail": str(refusal(lacking))}
        return lacking

    def _lacking(self) -> TableName | None:
        captured = self._hub.captured
        if captured is None or self._hub.cursor is None:
            return None
        return next((view.table for view in self._views if view.table not in captured), None)


def refusal(table: TableName) -> Unavailable:
    """Return what a client is told of such a table."""
    text = f"{table} is not captured at the moment; the server's log says why."
    return Unavailable(text, retry_after=RETRY_AFTER_SECONDS)
