"""View: what one subscription sees of one table. Equal views share one encoding of each event; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgevents_push.event import ChangeEvent, ChangeType, TableName


@dataclass(frozen=True)
class View:
    """The changes of `types` on `table`, seen through `columns`, encoded by `encode`.

    Frozen and hashable: subscribers with equal views are one group, and what `encode` returns for an event
    is made once and shared by all of them. `label` is for encoders that mark their frames (the WebSocket's `ref`).

    :param columns: the columns of rows that this subscription sees; None for all of them.
    :param exposed: the columns that may leave the process at all, which bounds the key; None for all of them.
    :param encode: returns the frame of an event, or None when nothing in this view changed.
    """

    table: TableName
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    exposed: frozenset[str] | None
    encode: Callable[[ChangeEvent, View], bytes | None]
    label: str = ""

    def frame(self, event: ChangeEvent) -> bytes | None:
        """Return the bytes of an event for this view, None when it does not concern it."""
        return self.encode(event, self) if event.type in self.types else None
