"""Resuming: is a client's cursor one that can be gone on from, and if not, why not? Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pgevents_push.cursor import Cursor
from pgevents_push.errors import CursorError
from pgevents_push.event import ChangeEvent
from pgevents_push.hub import View

# cursor: no cursor at all, tampered with, or of the future; epoch: of another or a restored database; retention:
# the log does not reach back so far.
GapReason = Literal["cursor", "epoch", "retention"]

RETRY_SECONDS = 0.5  # how often the log is asked again while the database is away


def parse_cursor(text: str | None) -> Cursor | None:
    """Return the cursor that a client named, None when it named none or nonsense."""
    try:
        return Cursor.parse(text) if text else None
    except CursorError:
        return None


def gap_reason(text: str | None, since: Cursor | None, position: Cursor) -> GapReason | None:
    """Tell why a client that named `text` cannot go on from there; None when it can, or named nothing."""
    if not text:
        return None
    if since is None:
        return "cursor"
    if since.epoch != position.epoch:
        return "epoch"
    return None if position.is_past(since) else "cursor"


def frames(events: Iterable[ChangeEvent], views: Iterable[View]) -> list[bytes]:
    """Return what views show of events, in order."""
    found = (view.frame(event) for event in events for view in views if view.table == event.table_name)
    return [frame for frame in found if frame is not None]
