"""Reader: from a cursor to the changes after it, whole transactions in causal order."""

from __future__ import annotations

from collections.abc import Iterator

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import CursorError
from pgevents_push.listener.batch import Batch, batch_of, in_order, last_ids_of, line_of
from pgevents_push.listener.reading import READ_BYTES, Execute, Reading, bounds
from pgevents_push.listener.shapes import parse_shapes
from pgevents_push.listener.statements import prepared, statement

_POSITION, _NEWEST = statement("position.sql"), statement("newest.sql")
_CHANGE = statement("change.sql")
_SINCE = prepared("since.sql", running=statement("running.sql"), change=_CHANGE)
_SINCE_NONE_RAN = prepared("since.sql", "since_none_ran", running="", change=_CHANGE)


def read_position(execute: Execute) -> Cursor:
    """Return the cursor of now."""
    [(snapshot, newest, epoch)] = execute(_POSITION)
    return Cursor(epoch, Snapshot.parse(snapshot).up_to(int(newest)))


def read_since(execute: Execute, cursor: Cursor, most: int) -> Iterator[Batch]:
    """Yield the changes after a cursor, in batches of at most `most` events. Nothing new: one empty batch, whose
    cursor knows which of the older transactions have ended meanwhile.

    :param execute: runs one statement and returns its rows, each in a snapshot of its own.
    :raises CursorError: the cursor's event is no longer in the log, or nothing of what was too much for one answer.
    """
    if cursor.until is not None:
        yield from Reading(cursor, cursor.until, most).batches(execute)
        cursor = Cursor(cursor.epoch, cursor.until)
    since = _SINCE if cursor.snapshot.xip else _SINCE_NONE_RAN
    (head, shapes, _), *rows = execute(since, {**bounds(cursor.snapshot), "limit": most, "bytes": READ_BYTES})
    snapshot, fits = head.split(" ")
    lines = list(map(line_of, rows))
    last_ids = last_ids_of(lines)
    # Not further than what is known to be committed, see cursor.py: the rest is looked at again next time.
    newest = last_ids if fits == "t" else [row[0] for row in execute(_NEWEST)]
    until = Snapshot.parse(snapshot).up_to(max([cursor.snapshot.xmax - 1, *map(int, newest)]))
    if fits == "t":
        lines = in_order(lines, last_ids)
        yield batch_of(lines, last_ids, cursor, until, finished=True, shapes=parse_shapes(shapes))
        return
    found = False
    for batch in Reading(cursor, until, most).batches(execute):
        found = True
        yield batch
    if not found:
        raise CursorError("the log was emptied while it was read")
