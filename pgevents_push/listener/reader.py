"""Reader: from a cursor to the changes after it, whole transactions in causal order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pgevents_push.cursor import Cursor, Snapshot, inside_batch
from pgevents_push.errors import CursorError
from pgevents_push.event import ChangeEvent, ChangeType

Row = tuple[Any, ...]
Execute = Callable[..., list[Row]]

_TYPES: dict[str, ChangeType] = {"i": "insert", "u": "update", "d": "delete", "t": "truncate"}


def _sql(name: str) -> str:
    return resources.files("pgevents_push.listener").joinpath("sql").joinpath(name).read_text(encoding="utf-8")


_SINCE, _TRANSACTIONS, _PIECE, _POSITION = (
    _sql(name) for name in ("since.sql", "transactions.sql", "piece.sql", "position.sql")
)


@dataclass(frozen=True)
class Batch:
    """Changes in order, and the cursor after them. A large transaction spans several batches, but is never
    mixed with another one; its last event says so."""

    events: tuple[ChangeEvent, ...]
    cursor: Cursor


def read_position(execute: Execute) -> Cursor:
    """Return the cursor of now."""
    [(snapshot, epoch)] = execute(_POSITION)
    return Cursor(epoch, Snapshot.parse(snapshot))


def read_since(execute: Execute, cursor: Cursor, most: int) -> Iterator[Batch]:
    """Yield the changes after a cursor, in batches of at most `most` events. Nothing new: one empty batch,
    with a newer cursor.

    :param execute: runs one statement and returns its rows, each in a snapshot of its own.
    :raises CursorError: the cursor's event is no longer in the log.
    """
    if cursor.until is not None:
        yield from _read_pieces(execute, cursor, cursor.until, most)
        cursor = Cursor(cursor.epoch, cursor.until)
    rows = execute(_SINCE, {**_bounds(cursor.snapshot), "limit": most})
    until, complete = Snapshot.parse(rows[0][0]), rows[0][1]
    if complete:
        found = [row[2:] for row in rows if row[2] is not None]
        yield _batch(found, cursor, until, finished=True)
    else:
        yield from _read_pieces(execute, cursor, until, most)


def _bounds(snapshot: Snapshot) -> dict[str, Any]:
    return {"xmax": str(snapshot.xmax), "xip": [str(xid) for xid in snapshot.xip]}


def _read_pieces(execute: Execute, cursor: Cursor, until: Snapshot, most: int) -> Iterator[Batch]:
    """Yield what lies between the cursor and the upper snapshot, a bounded piece at a time."""
    bounds = {**_bounds(cursor.snapshot), "until": str(until), "last_id": cursor.last_id}
    transactions = execute(_TRANSACTIONS, bounds)
    for at, (xid, last_id, _) in enumerate(transactions[_first(transactions, cursor) :], 1):
        done = cursor.last_id if at == 1 else 0
        while done < last_id:
            rows = execute(_PIECE, {"xid": xid, "id": done, "last_id": last_id, "limit": most})
            if not rows:
                raise CursorError(f"the log lost transaction {xid} while it was read")
            done = rows[-1][0]
            yield _batch(rows, cursor, until, finished=done == last_id == transactions[-1][1])


def _first(transactions: list[Row], cursor: Cursor) -> int:
    """Return which transaction to go on with: the one that holds the cursor's last event."""
    if not cursor.last_id:
        return 0
    for at, (_, _, holds_it) in enumerate(transactions):
        if holds_it:
            return at
    raise CursorError(f"event {cursor.last_id} is no longer in the log")


def _batch(rows: list[Row], start: Cursor, until: Snapshot, *, finished: bool) -> Batch:
    """Make events and number them: a cursor inside the batch names both snapshots and the event's id; after
    the batch the second snapshot says it all."""
    shared = inside_batch(start.epoch, start.snapshot, until)
    end = Cursor(start.epoch, until) if finished else Cursor(start.epoch, start.snapshot, until, rows[-1][0])
    written_last = {row[1]: row[13] for row in rows}
    events = [_event(row, f"{shared}{row[0]}", written_last[row[1]]) for row in rows]
    if events:
        events[-1] = events[-1].replace(cursor=str(end))
    return Batch(tuple(events), end)


def _event(row: Row, cursor: str, committed_at: str) -> ChangeEvent:
    (id_, xid, tx_last_id, schema, table, type_, pk, old_pk, new_row, old_row, changed, actor, truncated, at) = row
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
