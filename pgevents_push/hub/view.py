"""View: what one subscription sees of one table. Equal views share one encoding of each event; pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from pgevents_push.event import ChangeEvent, ChangeType, Gap, TableName
from pgevents_push.hub.condition import Condition
from pgevents_push.hub.definition import Mark
from pgevents_push.hub.persona import Persona

# Makes the frame of an event or a gap, as a view sees it; None when nothing in this view changed.
Encode: TypeAlias = "Callable[[ChangeEvent | Gap, View], bytes | None]"


@dataclass(frozen=True)
class View:
    """The changes of `types` on `table`, seen through `columns`, encoded by `encode`.

    Frozen and hashable: subscribers with equal views are one group, and what `encode` returns for an event
    is made once and shared by all of them. `label` is for encoders that mark their frames (the WebSocket's `ref`).

    :param columns: the columns of rows that this subscription sees; None for all of them.
    :param exposed: the columns that may leave the process at all, which bounds the key; None for all of them.
    :param condition: what a row must fulfil to be seen: filter and rights in one; None for all rows.
    :param mark: the columns that it shows and compares, as they were when it was made; None: nobody could tell.
    :param persona: as whom PostgreSQL's row-level security is asked besides; None: not at all.
    """

    table: TableName
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    exposed: frozenset[str] | None
    encode: Encode
    label: str = ""
    condition: Condition | None = None
    mark: Mark | None = None
    persona: Persona | None = None

    @cached_property
    def face(self) -> Hashable:
        """Those that are equal in this get the same frame of a change that all of them see."""
        return _same((self.columns, self.exposed, self.encode, self.label))


@lru_cache(maxsize=1024)
def _same(face: Hashable) -> Hashable:
    """One for all that are equal: thousands of them are compared for a change."""
    return face
