"""Snapshots: what tables hold at one moment, read for one client after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pgevents_push import waiting
from pgevents_push.cursor import Cursor
from pgevents_push.errors import (
    Altered,
    ConnectionLost,
    Overdue,
    PGEventsError,
    Refused,
    RowsError,
    TooSlow,
    UnsupportedCondition,
)
from pgevents_push.event import TableName
from pgevents_push.extension.row_security import seen_by
from pgevents_push.hub import Chunk, Shipment, View
from pgevents_push.hub.columns import read_columns
from pgevents_push.hub.condition import where_sql
from pgevents_push.listener import (
    Connection,
    Place,
    RowsWanted,
    find_table,
    is_in_the_way,
    read_position,
    read_rows,
    read_shape,
    see_as_captured,
)

log = logging.getLogger(__name__)

# A chunk is this large or as large as its last row. Small ones cost the courier a wake-up each; large ones keep
# the others waiting while their numbers are looked through (1 ms).
CHUNK_CHARACTERS = 64_000


# While a client keeps a transaction waiting: how often it is looked whether that keeps somebody else waiting, who wants
# to alter the table; and for how long it may keep those waiting who want rows as well, without taking any itself.
LOOK_SECONDS = 1.0
STALLED_SECONDS = 5.0

# How long the listener may take to hear of what lies before the rows; mostly it has already.
HEARD_SECONDS = 5.0

Execute = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True)
class _Request:
    views: Sequence[View]
    limit: int | None
    shipment: Shipment


class Snapshots:
    """Reads at most `readers` snapshots at a time; the others wait in line. What is read is ahead of its client by
    what may wait for it, so that a client's pace matters only to large tables.

    :param connect: opens a connection.
    :param reach: waits until this process has heard of all that lies before a cursor; False when it takes too long.
    :param seconds: how long a snapshot's transaction may stay open: it keeps VACUUM from its work.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        reach: Callable[[Cursor, float], bool],
        readers: int,
        seconds: float,
        max_row_bytes: int,
    ) -> None:
        self._connect, self._reach = connect, reach
        self._readers = readers
        self._seconds = seconds
        self._max_row_bytes = max_row_bytes
        self._line: deque[_Request] = deque()
        self._lock = threading.Lock()
        self._at_work = 0
        self._told: set[str] = set()

    def take(self, views: Sequence[View], limit: int | None, shipment: Shipment) -> None:
        """Fill a Shipment, in the background, with what these views show of their tables at one moment.

        :param limit: how many rows of each table at most.
        """
        with self._lock:
            self._line.append(_Request(views, limit, shipment))
            if self._at_work == self._readers:
                return
            self._at_work += 1
        waiting.spawn(self._work, name="pgevents-snapshot")

    def _next(self) -> _Request | None:
        with self._lock:
            while self._line:
                request = self._line.popleft()
                if not request.shipment.closed:
                    return request
            self._at_work -= 1
            return None

    def _work(self) -> None:
        """Read for all who wait, on one connection, which is then closed."""
        connection: Connection | None = None
        while (request := self._next()) is not None:
            connection = self._answer(request, connection)
        if connection is not None:
            connection.close()

    def _answer(self, request: _Request, connection: Connection | None) -> Connection | None:
        """Read for one client; return the connection if it can be used again."""
        shipment = request.shipment
        try:
            connection = connection or self._connect()
            self._read(connection, request)
            shipment.finish()
            return connection
        except PGEventsError as error:
            self._tell(error)
            shipment.fail(error)
        except Exception:  # a bug of ours must not cost those who wait in line
            log.exception("a snapshot of %s failed", ", ".join(str(view.table) for view in request.views))
            shipment.fail(RowsError("The snapshot failed; the server's log says why."))
        if connection is not None:
            connection.close()
        return None

    def _read(self, connection: Connection, request: _Request) -> None:
        places = [find_table(connection.execute, view.table, whole=view.persona is None) for view in request.views]
        deadline = time.monotonic() + self._seconds
        try:
            self._read_all(connection, places, request, deadline)
        except Refused as error:
            named = ", ".join(str(view.table) for view in request.views)
            raise RowsError(
                f"The rows of {named} cannot be read: {error.discreet}. PostgreSQL's log may say more."
            ) from error
        except ConnectionLost as error:
            if isinstance(error, Overdue) or time.monotonic() >= deadline:
                raise TooSlow from error  # the next time it would be so too
            raise

    def _read_all(self, connection: Connection, places: list[Place], request: _Request, deadline: float) -> None:
        with connection.transaction([place.name for place in places], self._seconds) as execute:
            request.shipment.begin(self._position(execute))
            see_as_captured(execute)
            for place, view in zip(places, request.views, strict=True):
                where, own_eyes = _where(execute, view), view.persona is None
                wanted = RowsWanted(view.columns, view.exposed, where, request.limit, by_place=own_eyes)
                with seen_by(view.persona, execute, place):
                    for chunk in chunks(view.table, read_rows(execute, place, wanted, self._max_row_bytes)):
                        self._put(chunk, request.shipment, execute, deadline)

    def _position(self, execute: Execute) -> Cursor:
        """Return the moment that the rows are of. Whoever was revoked before it is not there any more to see them: this
        process has heard of that by now, although the rows do not come through the log."""
        position = read_position(execute)
        if not self._reach(position, HEARD_SECONDS):
            raise ConnectionLost("the listener is behind")
        return position

    def _put(self, chunk: Chunk, shipment: Shipment, execute: Execute, deadline: float) -> None:
        """Add a chunk, or wait for the client: until the deadline, or until somebody else waits for us."""
        began = time.monotonic()
        while not shipment.put(chunk, min(LOOK_SECONDS, deadline - time.monotonic())):
            now = time.monotonic()
            if shipment.closed or now >= deadline or self._keeps_others(now - began) or is_in_the_way(execute):
                raise TooSlow

    def _keeps_others(self, seconds: float) -> bool:
        """Whether a client that has taken nothing for so long keeps others from their rows."""
        if seconds < STALLED_SECONDS:
            return False
        with self._lock:
            return any(not request.shipment.closed for request in self._line)

    def _tell(self, error: PGEventsError) -> None:
        """For the one who runs the app: the client is told nothing of roles and grants. Each thing once."""
        if isinstance(error, RowsError) and str(error) not in self._told:
            self._told.add(str(error))
            log.error("%s", error)

    def close(self) -> None:
        """Send those away who wait in line. Who is being read for is told by its own stream's end."""
        with self._lock:
            waiting_ones = list(self._line)
            self._line.clear()
        for request in waiting_ones:
            request.shipment.fail(ConnectionLost("this process is stopping"))


def _where(execute: Execute, view: View) -> tuple[str, dict[str, str]] | None:
    """Return a view's condition as SQL, None when it sees all rows.

    :raises Altered: the columns are others than those that the view was made for.
    """
    if view.mark is not None and not view.mark.fits(read_shape(execute, view.table)):
        raise Altered
    if view.condition is None:
        return None
    try:
        return where_sql(view.condition, read_columns(execute, view.table))
    except UnsupportedCondition as error:
        raise Altered from error


def chunks(table: TableName, rows: Iterable[str]) -> Iterator[Chunk]:
    """Put rows together, and mark the first chunk and the last one; without rows they are one and the same."""
    held: list[str] = []
    size, first = 0, True
    for row in rows:
        if size >= CHUNK_CHARACTERS:
            yield Chunk(table, tuple(held), first, last=False)
            held, size, first = [], 0, False
        held.append(row)
        size += len(row)
    yield Chunk(table, tuple(held), first, last=True)
