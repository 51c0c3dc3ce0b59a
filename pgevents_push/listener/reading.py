"""Reading: what lies between a cursor and a later snapshot, a bounded piece at a time. It may be put aside and gone on
with later: it remembers which transactions are still to come, since to find that out all of them have to be counted."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import CursorError
from pgevents_push.listener.batch import Batch, Line, Row, batch_of, line_of
from pgevents_push.listener.statements import statement

Execute = Callable[..., list[Row]]

# How many transactions are known at a time: each is a tuple (250 bytes), not its events.
TRANSACTIONS = 10_000

# How much text of rows one answer may bring: with 1 MB rows a thousand of them would be a gigabyte.
READ_BYTES = 8_000_000

_TRANSACTIONS, _PIECE = statement("transactions.sql"), statement("piece.sql", change=statement("change.sql"))


def bounds(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as parameters of our statements."""
    return {"xmax": str(snapshot.xmax), "xip": [str(xid) for xid in snapshot.xip]}


class Reading:
    """The changes after a cursor that a later snapshot shows, in batches of at most `most` events. The end of each is
    a cursor inside the whole, also that of the last one, unless it is known to be the last."""

    def __init__(self, cursor: Cursor, until: Snapshot, most: int) -> None:
        self._stretches: deque[_Stretch] = deque()
        if cursor.until is not None:
            self._stretches.append(_Stretch(cursor, cursor.until, most))
            cursor = Cursor(cursor.epoch, cursor.until)
        self._stretches.append(_Stretch(cursor, until, most))

    def next(self, execute: Execute) -> Batch | None:
        """Read the next batch; None: there are no more.

        :param execute: runs one statement and returns its rows.
        :raises CursorError: the cursor's event is no longer in the log.
        """
        while self._stretches:
            if (batch := self._stretches[0].next(execute)) is not None:
                return batch
            self._stretches.popleft()
        return None

    def fork(self) -> Reading:
        """Return a second reading that goes on from the same place."""
        twin = copy.copy(self)
        twin._stretches = deque(copy.copy(stretch) for stretch in self._stretches)
        return twin

    def batches(self, execute: Execute) -> Iterator[Batch]:
        """Yield the batches that are left."""
        while (batch := self.next(execute)) is not None:
            yield batch


class _Stretch:
    """One part of a reading, all of whose cursors name the same two snapshots."""

    def __init__(self, start: Cursor, until: Snapshot, most: int) -> None:
        self._start, self._until, self._most = start, until, most
        self._known: list[Row] = []  # transactions not read to their end, in order; never changed, a fork has it too
        self._all_known = False
        self._newest = 0  # the greatest id of the last one that became known
        self._done = start.last_id  # the last event that is known of the first one

    def next(self, execute: Execute) -> Batch | None:
        while self._known or self._learn(execute):
            group = _group(self._known, self._most)
            lines = list(map(line_of, execute(_PIECE, self._parameters(group))))
            if not lines and self._done != group[0][1]:
                raise CursorError(f"the log lost transaction {group[0][0]} while it was read")
            self._go_on(lines)
            if lines:
                finished = self._all_known and not self._known
                last_ids = {xid: last_id for xid, last_id, *_ in group}
                return batch_of(lines, last_ids, self._start, self._until, finished=finished)
        return None

    def _learn(self, execute: Execute) -> bool:
        """Ask for the next transactions, beginning with the one that holds the cursor's last event."""
        if self._all_known:
            return False
        last_id, first = self._start.last_id, self._newest == 0
        until = {"until": str(self._until), "last_id": last_id, "after": self._newest, "limit": TRANSACTIONS}
        self._known = execute(_TRANSACTIONS, {**bounds(self._start.snapshot), **until})
        if first and last_id and not (self._known and self._known[0][3]):
            raise CursorError(f"event {last_id} is no longer in the log")
        self._all_known = len(self._known) < TRANSACTIONS
        self._newest = self._known[-1][1] if self._known else self._newest
        return bool(self._known)

    def _parameters(self, group: list[Row]) -> dict[str, Any]:
        return {"xids": [row[0] for row in group], "id": self._done, "limit": self._most, "bytes": READ_BYTES}

    def _go_on(self, lines: list[Line]) -> None:
        """Strike out the transactions that are read to their end; no lines: it was the one that the cursor had seen."""
        if not lines:
            self._known, self._done = self._known[1:], 0
            return
        last_id, xid = int(lines[-1][0]), lines[-1][1]
        reached = next(at for at, transaction in enumerate(self._known) if transaction[0] == xid)
        whole = last_id == self._known[reached][1]
        self._known = self._known[reached + whole :]
        self._done = 0 if whole else last_id


def _group(transactions: list[Row], most: int) -> list[Row]:
    """Return the first transactions that are small enough together, so that a thousand of them are one statement."""
    events = 0
    for at, transaction in enumerate(transactions):
        events += transaction[2]
        if at and events > most:
            return transactions[:at]
    return transactions
