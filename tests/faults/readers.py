"""Readers of the log: ours, and two that are wrong in well-known ways, behind one door."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pgevents_push.cursor import Cursor
from pgevents_push.event import ChangeEvent
from pgevents_push.listener import Connection, read_position, read_since
from tests.faults.checker import Change, change_of

_COLUMNS = "id, xid::text, table_name || pk, new_row::json ->> 'version', id = max(id) OVER (PARTITION BY xid)"


class Reader(ABC):
    """Remembers what it has seen; `poll` reads on and tells whether there was something."""

    def __init__(self, dsn: Mapping[str, Any]) -> None:
        self.seen: list[Change] = []
        self.counts: Counter[str] = Counter()
        self._dsn = dsn
        self._connection = Connection(dsn, 20)

    @abstractmethod
    def poll(self) -> bool: ...

    def close(self) -> None:
        self._connection.close()


class SnapshotReader(Reader):
    """The listener's own way: read_since over its Connection.

    :param most: how many events it holds at a time; a small number makes it read large batches in pieces.
    """

    def __init__(self, dsn: Mapping[str, Any], most: int) -> None:
        super().__init__(dsn)
        self._most = most
        self._cursor = read_position(self._connection.execute)

    def poll(self) -> bool:
        before = len(self.seen)
        for batch in read_since(self._connection.execute, self._cursor, self._most):
            self._see(batch.events)
            self._cursor = batch.cursor
        return len(self.seen) > before

    def _see(self, events: Iterable[ChangeEvent]) -> None:
        for event in events:
            assert event.row is not None
            data = {"id": event.id, "tx": event.tx, "last": event.last, "pk": event.pk}
            self.seen.append(change_of(data, event.table, event.row["version"]))


class ResumingReader(SnapshotReader):
    """The same, but it stops anywhere, also inside a transaction, and goes on from the text of the cursor of the
    last event that it has seen, mostly on another connection and with another batch size."""

    def __init__(self, dsn: Mapping[str, Any], seed: int) -> None:
        super().__init__(dsn, 1000)
        self._chance = random.Random(seed)

    def poll(self) -> bool:
        before = len(self.seen)
        for batch in read_since(self._connection.execute, self._cursor, self._most):
            if batch.events and self._chance.random() < 0.3:
                self._interrupt(batch.events[: self._chance.randint(1, len(batch.events))])
                break
            self._see(batch.events)
            self._cursor = Cursor.parse(str(batch.cursor))
        return len(self.seen) > before

    def _interrupt(self, events: tuple[ChangeEvent, ...]) -> None:
        self._see(events)
        self._cursor = Cursor.parse(events[-1].cursor)
        self.counts["interrupted"] += 1
        self.counts["inside a transaction"] += not events[-1].last
        self._most = self._chance.choice((1, 2, 3, 7, 1000))
        if self._chance.random() < 0.2:
            self._connection.close()
            self._connection = Connection(self._dsn, 20)


class SequenceReader(Reader):
    """Wrong: takes ids for the order of commits."""

    def poll(self) -> bool:
        last = max((change.id for change in self.seen), default=0)
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM pgevents.log WHERE id > %s ORDER BY id", [last])
        self.seen += map(_change, rows)
        return bool(rows)


class HorizonReader(Reader):
    """Wrong: waits until nothing older runs anywhere in the cluster, and takes transaction numbers for the order
    of commits. The textbook's recipe for an outbox."""

    def __init__(self, dsn: Mapping[str, Any]) -> None:
        super().__init__(dsn)
        self._last = ("0", 0)

    def poll(self) -> bool:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM pgevents.log AS l "
            "WHERE (xid, id) > ((%s)::xid8, %s) AND xid < pg_snapshot_xmin(pg_current_snapshot()) "
            "ORDER BY l.xid, l.id",
            list(self._last),
        )
        self.seen += map(_change, rows)
        if rows:
            self._last = (rows[-1][1], rows[-1][0])
        return bool(rows)


MakeReader = Callable[[Mapping[str, Any]], Reader]


def _change(row: tuple[Any, ...]) -> Change:
    id_, tx, key, version, last = row
    return Change(id_, tx, key, int(version), last)
