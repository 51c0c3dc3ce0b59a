"""Page: some of the changes that a client missed, and the cursor after them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent


@dataclass(frozen=True)
class Page:
    """Changes in order, and the position behind them."""

    events: tuple[ChangeEvent, ...]
    cursor: Cursor


# Gives the next page between a cursor and a later snapshot; raises CursorError where the log does not reach back.
Recall = Callable[[Cursor, Snapshot], Page]
