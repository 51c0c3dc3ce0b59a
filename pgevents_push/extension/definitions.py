"""Definitions: what the columns of exposed tables are, read once and again when they have changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from pgevents_push.errors import ConnectionLost
from pgevents_push.event import Shape, TableName
from pgevents_push.hub import Definition
from pgevents_push.hub.columns import Execute, read_columns
from pgevents_push.listener import Connection, read_position, read_shape, read_xmax

log = logging.getLogger(__name__)

# Who asks so soon after a failure gets the same answer: a crowd must not wait for a frozen server one by one.
FAILED_SECONDS = 1.0
# Whoever asks for a column that does not exist must not keep PostgreSQL busy.
RENEWED_SECONDS = 1.0


class Definitions:
    """Asks PostgreSQL on a connection of ours, opened for that and closed: it happens once for each table, and once
    more after each change of its columns.

    :param connect: opens a connection.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._known: dict[TableName, Definition] = {}
        self._before: dict[TableName, Definition] = {}  # what was known last, also when it is known no more
        self._read_at: dict[TableName, float] = {}
        self._reading = threading.Lock()
        self._failure: str | None = None
        self._failed_at = 0.0

    def of(self, table: TableName) -> Definition:
        """Return the columns of a table; without any when there is no such table.

        :raises ConnectionLost: nobody knows them, and the database is away.
        """
        known = self._known.get(table)
        return known if known is not None else self._ask([table])[0]

    def renewed(self, table: TableName) -> Definition:
        """Return the columns of a table as they are now, or were a second ago. Others are noticed with the next change
        of a row, and after an ALTER TABLE somebody may ask for a new column before that.

        :raises ConnectionLost: the database is away; what is known stays known.
        """
        with self._reading:
            if time.monotonic() >= self._read_at.get(table, 0.0) + RENEWED_SECONDS:
                self._keep(self._try([table]))
        return self.of(table)

    def learn(self, tables: Iterable[TableName]) -> None:
        """Ask beforehand, so that what comes later is known to be later. The database is away: does nothing."""
        unknown = [table for table in tables if table not in self._known]
        try:
            self._ask(unknown)
        except ConnectionLost as error:
            log.debug("the columns are asked for when somebody needs them: %s", error)

    def _ask(self, tables: list[TableName]) -> list[Definition]:
        with self._reading:
            known = {table: self._known[table] for table in tables if table in self._known}
            unknown = [table for table in tables if table not in known]
            found = self._try(unknown) if unknown else {}
            self._keep(found)
            return [known.get(table) or found[table] for table in tables]

    def _keep(self, found: dict[TableName, Definition]) -> None:
        there = {table: definition for table, definition in found.items() if definition.shape}
        self._known.update(there)
        self._before.update(there)
        self._read_at.update(dict.fromkeys(there, time.monotonic()))

    def _try(self, tables: list[TableName]) -> dict[TableName, Definition]:
        if self._failure is not None and time.monotonic() < self._failed_at + FAILED_SECONDS:
            raise ConnectionLost(self._failure)
        try:
            return self._read(tables)
        except ConnectionLost as error:
            self._failure, self._failed_at = str(error), time.monotonic()
            raise

    def _read(self, tables: list[TableName]) -> dict[TableName, Definition]:
        connection = self._connect()
        try:
            return {table: self._read_one(connection.execute, table) for table in tables}
        finally:
            connection.close()

    def _read_one(self, execute: Execute, table: TableName) -> Definition:
        found, before = _read_definition(execute, table), self._before.get(table)
        return found if before is None else found.after(before)

    def forget_all(self) -> None:
        """Ask anew for all: the tables are others, or the database is."""
        self._known, self._before = {}, {}

    def forget(self, table: TableName, shape: Shape) -> None:
        """Ask anew when the columns are not these. Waits for nobody."""
        known = self._known.get(table)
        if known is not None and known.shape != shape:
            # The list in one step: another thread may learn of a table meanwhile.
            self._known = {name: other for name, other in list(self._known.items()) if other is not known}


def _read_definition(execute: Execute, table: TableName) -> Definition:
    shape, columns = read_shape(execute, table), read_columns(execute, table)  # in this order: see Definition
    return Definition(columns, shape, read_position(execute).snapshot, read_xmax(execute))
