"""Batch: rows of the log as events, and the cursor after them; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pgevents_push.cursor import Cursor, Snapshot, inside_batch
from pgevents_push.event import ChangeEvent, EventType, Shapes

Row = tuple[Any, ...]

_NO_SHAPES: Shapes = {}
_TYPES: dict[str, EventType] = {"i": "insert", "u": "update", "d": "delete", "t": "truncate", "g": "gap"}


@dataclass(frozen=True)
class Batch:
    """Changes in order, and the cursor after them. A large transaction spans several batches, but is never
    mixed with another one; its last event says so.

    :param shapes: the columns of tables that changed, as far as they are known.
    """

    events: tuple[ChangeEvent, ...]
    cursor: Cursor
    shapes: Shapes = field(default_factory=dict)


def batch_of(rows: list[Row], start: Cursor, until: Snapshot, *, finished: bool, shapes: Shapes = _NO_SHAPES) -> Batch:
    """Make events and number them: a cursor inside the batch names both snapshots and the event's id; after
    the batch the second snapshot says it all.

    :param rows: their first columns are those of `_event`.
    """
    end = Cursor(start.epoch, until) if finished else Cursor(start.epoch, start.snapshot, until, rows[-1][0])
    if not rows:
        return Batch((), end, shapes)
    written_last = {row[1]: row[13] for row in rows}
    shared = inside_batch(start.epoch, start.snapshot, until) if len(rows) > 1 else ""
    events = [_event(row, f"{shared}{row[0]}", written_last[row[1]]) for row in rows[:-1]]
    events.append(_event(rows[-1], str(end), rows[-1][13]))
    return Batch(tuple(events), end, shapes)


def _event(row: Row, cursor: str, committed_at: str) -> ChangeEvent:
    (id_, xid, tx_last_id, schema, table, type_, pk, old_pk, new_row, old_row, changed, actor, truncated, at, *_) = row
    return ChangeEvent(
        id=str(id_),
        type=_TYPES[type_],
        schema=schema,
        table=table,
        tx=xid,
        last=id_ == tx_last_id,
        at_text=at,
        committed_at_text=committed_at,
        cursor=cursor,
        pk_json=pk,
        old_pk_json=old_pk,
        row_json=new_row,
        old_json=old_row,
        changed_json=changed,
        actor_text=actor,
        truncated=truncated,
    )
