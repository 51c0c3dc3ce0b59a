"""Batch: rows of the log as events, and the cursor after them; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pgevents_push.cursor import Cursor, Snapshot, inside_batch
from pgevents_push.event import ChangeEvent, EventType, Shapes

Row = tuple[Any, ...]
Line = list[Any]  # a row, taken apart

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


def line_of(row: Row) -> Line:
    """Take a row of change.sql apart: id, xid and so on, as `_event` has them."""
    return [*row[0].split("\x1f", 9), row[1], row[2]]


def last_ids_of(lines: Iterable[Line]) -> dict[str, int]:
    """Return the greatest id of each of the transactions, which are all there."""
    found: dict[str, int] = {}
    for line in lines:
        found[line[1]] = max(int(line[0]), found.get(line[1], 0))
    return found


def in_order(lines: list[Line], last_ids: Mapping[str, int]) -> list[Line]:
    """Sort them: whole transactions by their greatest ids. A transaction that wrote a row after another one had
    committed holds a greater id than all of that one, so this order is causal. The order of xids is not: an xid is
    given at the first write."""
    return sorted(lines, key=lambda line: (last_ids[line[1]], int(line[0]))) if len(lines) > 1 else lines


def batch_of(
    lines: list[Line],
    last_ids: Mapping[str, int],
    start: Cursor,
    until: Snapshot,
    *,
    finished: bool,
    shapes: Shapes = _NO_SHAPES,
) -> Batch:
    """Make events and number them: a cursor inside the batch names both snapshots and the event's id; after
    the batch the second snapshot says it all.

    :param lines: in order.
    :param last_ids: the greatest id of each of their transactions, whether that is among them or not.
    """
    end = Cursor(start.epoch, until) if finished else Cursor(start.epoch, start.snapshot, until, int(lines[-1][0]))
    if not lines:
        return Batch((), end, shapes)
    written_last = {line[1]: line[4] for line in lines}
    shared = inside_batch(start.epoch, start.snapshot, until) if len(lines) > 1 else ""
    events = [_event(line, last_ids, f"{shared}{line[0]}", written_last) for line in lines[:-1]]
    events.append(_event(lines[-1], last_ids, str(end), written_last))
    return Batch(tuple(events), end, shapes)


def _event(line: Line, last_ids: Mapping[str, int], cursor: str, written_last: Mapping[str, str]) -> ChangeEvent:
    id_, xid, type_, truncated, at, pk, changed, old_pk, names, actor, new_row, old_row = line
    schema, table = _names(names)
    return ChangeEvent(
        id=id_,
        type=_TYPES[type_],
        schema=schema,
        table=table,
        tx=xid,
        last=int(id_) == last_ids[xid],
        at_text=at,
        committed_at_text=written_last[xid],
        cursor=cursor,
        pk_json=pk,
        old_pk_json=old_pk or None,
        row_json=new_row,
        old_json=old_row,
        changed_json=changed,
        actor_text=actor or None,
        truncated=truncated == "t",
    )


@lru_cache(maxsize=1024)
def _names(text: str) -> tuple[str, str]:
    schema, table = json.loads(text)
    return schema, table
