"""Definition: what the columns of a table were when somebody asked, and how it shows that they are others now; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import ischema_names

from pgevents_push.cursor import Snapshot
from pgevents_push.event import Shape
from pgevents_push.hub.columns import Columns

_XIDS = 2**32  # PostgreSQL counts transactions in 64 bits, but its rows hold the lower 32 of them


@dataclass(frozen=True)
class Mark:
    """Some columns, each with what made it what it was (None: it was not there).

    :param newest: the last transaction that made one of them; 0 when there are none.
    :param seen: a position at which they were so already.
    """

    stamps: tuple[tuple[str, str | None], ...]
    newest: int
    seen: Snapshot = field(compare=False)

    def fits(self, shape: Shape) -> bool:
        """Whether a table whose columns are these now has all of them unchanged."""
        return all(shape.get(name) == stamp for name, stamp in self.stamps)

    def was_true_at(self, snapshot: Snapshot) -> bool:
        """Whether they were so for all changes after a position. It need not know of the transaction that made them:
        no position reaches further than the last captured change."""
        return snapshot.sees(self.newest) or snapshot.covers(self.seen)


@dataclass(frozen=True)
class Definition:
    """The columns of a table.

    :param shape: read before the columns, so that a change in between shows up as a mark that does not fit.
    :param seen: the position behind the reading.
    :param xmax: one past the last transaction then: tells which 64-bit transactions the shape means.
    :param earlier: for columns that an earlier reading found the same, the position behind that one.
    :param key_only: there are more columns, but no more than these are captured.
    """

    columns: Columns
    shape: Shape
    seen: Snapshot
    xmax: int
    earlier: Mapping[str, Snapshot] = field(default_factory=dict)
    key_only: bool = False

    def after(self, before: Definition) -> Definition:
        """Return the same, knowing what an earlier reading found: the columns that it found so have been so since."""
        same = (name for name, stamp in self.shape.items() if before.shape.get(name) == stamp)
        return replace(self, earlier={name: before.earlier.get(name, before.seen) for name in same})

    @cached_property
    def of_key(self) -> Definition:
        """The same, as if the table had only the columns of its key."""
        columns = {name: column for name, column in self.columns.items() if column.in_key}
        shape = {name: stamp for name, stamp in self.shape.items() if name in columns}
        return replace(self, columns=columns, shape=shape, key_only=True)

    @cached_property
    def c(self) -> sa.ColumnCollection[str, sa.Column[Any]]:
        """The columns for SQLAlchemy, to make expressions from."""
        columns: list[sa.Column[Any]] = [
            sa.Column(column.name, ischema_names.get(column.type, sa.types.NullType))
            for column in self.columns.values()
        ]
        table = next((c.table for c in self.columns.values() if c.table is not None), None)
        return sa.Table(table.name if table else "", sa.MetaData(), *columns, schema=table and table.schema).c

    def mark(self, names: Iterable[str] | None) -> Mark:
        """Mark the columns that something depends on; None: all that there are."""
        stamps = tuple((name, self.shape.get(name)) for name in sorted(self.shape if names is None else set(names)))
        made = [int(xid) for _, stamp in stamps if stamp for xid in stamp.split(".")]
        newest = max((_widened(xid, self.xmax) for xid in made), default=0)
        # Of positions of one process, each covers those before it.
        seen = reduce(_later, (self.earlier.get(name, self.seen) for name, _ in stamps), Snapshot(1, 1))
        return Mark(stamps, newest, seen)


def _later(one: Snapshot, other: Snapshot) -> Snapshot:
    return one if one.covers(other) else other


def _widened(xid: int, xmax: int) -> int:
    """Return the last transaction before `xmax` with these lower 32 bits."""
    return xmax - (xmax - xid) % _XIDS
