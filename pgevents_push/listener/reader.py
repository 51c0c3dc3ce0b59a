"""Reader: from a cursor to the changes after it, whole transactions in causal order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pgevents_push.cursor import Cursor, Snapshot, inside_batch
from pgevents_push.errors import CursorError
from pgevents_push.event import ChangeEvent, ChangeType
from pgevents_push.listener.statements import statement

Row = tuple[Any, ...]
Execute = Callable[..., list[Row]]

# How many transactions are known at a time when many are read: each is a tuple, not its events.
TRANSACTIONS = 10_000

# How much text of rows one answer may bring: with 1 MB rows a thousand of them would be a gigabyte.
READ_BYTES = 8_000_000

_TYPES: dict[str, ChangeType] = {"i": "insert", "u": "update", "d": "delete", "t": "truncate"}


_SINCE, _TRANSACTIONS, _PIECE, _POSITION = (
    statement(name) for name in ("since.sql", "transactions.sql", "piece.sql", "position.sql")
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
    rows = execute(_SINCE, {**_bounds(cursor.snapshot), "limit": most, "bytes": READ_BYTES})
    until, complete = Snapshot.parse(rows[0][0]), rows[0][1]
    if complete:
        found = [row[2:] for row in rows if row[2] is not None]
        yield _batch(found, cursor, until, finished=True)
    else:
        yield from _read_pieces(execute, cursor, until, most)


def read_between(execute: Execute, cursor: Cursor, until: Snapshot, most: int) -> Iterator[Batch]:
    """Yield the changes after a cursor that a later snapshot shows, in batches of at most `most` events.

    :raises CursorError: the cursor's event is no longer in the log.
    """
    if cursor.until is not None:
        yield from _read_pieces(execute, cursor, cursor.until, most)
        cursor = Cursor(cursor.epoch, cursor.until)
    yield from _read_pieces(execute, cursor, until, most)


def _bounds(snapshot: Snapshot) -> dict[str, Any]:
    return {"xmax": str(snapshot.xmax), "xip": [str(xid) for xid in snapshot.xip]}


def _read_pieces(execute: Execute, cursor: Cursor, until: Snapshot, most: int) -> Iterator[Batch]:
    """Yield what lies between the cursor and the upper snapshot, a bounded piece at a time. The end of each
    piece is an inner cursor, also that of the last one, unless it is known to be the last."""
    done = cursor.last_id
    for transactions, last in _transactions(execute, cursor, until):
        for group in _groups(transactions, most):
            while group:
                rows = execute(_PIECE, _piece(group, done, most))
                if not rows and done != group[0][1]:
                    raise CursorError(f"the log lost transaction {group[0][0]} while it was read")
                group, done = _rest(group, rows)
                if rows:
                    yield _batch(rows, cursor, until, finished=last and rows[-1][0] == transactions[-1][1])


def _rest(group: list[Row], rows: list[Row]) -> tuple[list[Row], int]:
    """Return the transactions that are not read to their end, and the last event known of the first of them."""
    if not rows:
        return group[1:], 0  # the one that the cursor had seen to its end
    reached = next(at for at, transaction in enumerate(group) if transaction[0] == rows[-1][1])
    done: int = rows[-1][0]
    return (group[reached + 1 :], 0) if done == group[reached][1] else (group[reached:], done)


def _transactions(execute: Execute, cursor: Cursor, until: Snapshot) -> Iterator[tuple[list[Row], bool]]:
    """Yield pages of transactions, beginning with the one that holds the cursor's last event, and whether the
    page is the last one."""
    bounds = {**_bounds(cursor.snapshot), "until": str(until), "last_id": cursor.last_id, "limit": TRANSACTIONS}
    after, looking = 0, bool(cursor.last_id)
    while True:
        page = execute(_TRANSACTIONS, {**bounds, "after": after})
        if looking and not (page and page[0][3]):
            raise CursorError(f"event {cursor.last_id} is no longer in the log")
        if page:
            yield page, len(page) < TRANSACTIONS
        if len(page) < TRANSACTIONS:
            return
        after, looking = page[-1][1], False


def _groups(transactions: list[Row], most: int) -> Iterator[list[Row]]:
    """Put small transactions together, so that a thousand of them are one statement."""
    group: list[Row] = []
    events = 0
    for transaction in transactions:
        if group and events + transaction[2] > most:
            yield group
            group, events = [], 0
        group.append(transaction)
        events += transaction[2]
    if group:
        yield group


def _piece(group: list[Row], done: int, most: int) -> dict[str, Any]:
    ids = {"xids": [row[0] for row in group], "last_ids": [row[1] for row in group], "id": done}
    return {**ids, "limit": most, "bytes": READ_BYTES}


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
