"""Page: some of the changes that a client missed, and the cursor after them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent, Shapes


@dataclass(frozen=True)
class Page:
    """Changes in order, the position behind them, and the columns of their tables where these were asked for.

    :param is_shared: the next client that asks gets the same objects.
    """

    events: tuple[ChangeEvent, ...]
    cursor: Cursor
    shapes: Shapes = field(default_factory=dict)
    is_shared: bool = False

    def for_all(self) -> Page:
        """Return the same, for more than one client."""
        return replace(self, is_shared=True)


# Gives the next page between a cursor and a later snapshot; raises CursorError where the log does not reach back. While
# the page is open it is this client's turn: what is made of it should be made within, and nothing be waited for.
Recall = Callable[[Cursor, Snapshot], AbstractContextManager[Page]]
