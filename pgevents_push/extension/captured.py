"""Captured: the declarations resolved for one app, and whether its database captures them."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Flask

from pgevents_push import waiting
from pgevents_push.capture import Installer, Status, install_with
from pgevents_push.config import Config
from pgevents_push.errors import InstallError
from pgevents_push.event import TableName
from pgevents_push.extension.database import Database
from pgevents_push.extension.declarations import Declarations
from pgevents_push.handlers import Handler
from pgevents_push.transports.gate import Gate

log = logging.getLogger(__name__)

# How often a table that does not exist yet is looked for: at first soon (a migration is running), then seldom.
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 1.0, 15.0


class Captured:
    """The tables of one app: their handlers, their exposures, and their triggers."""

    def __init__(self, app: Flask, declarations: Declarations, config: Config, database: Database) -> None:
        self._app = app
        self._declarations = declarations
        self._config = config
        self._database = database
        self._gate: Gate | None = None
        self._handlers: list[Handler] | None = None
        self._tables: list[TableName] | None = None
        self._ensured: frozenset[TableName] = frozenset()
        self._next_look = 0.0
        self._look_seconds = FIRST_LOOK_SECONDS
        _listen_to_create_all(self)

    def forget(self) -> None:
        """Resolve the declarations anew when they are next asked for."""
        self._gate = self._handlers = self._tables = None

    @property
    def gate(self) -> Gate:
        if self._gate is None:
            schema = self._config.default_schema
            self._gate = Gate(self._declarations.exposures(schema), schema)
        return self._gate

    def handlers(self) -> list[Handler]:
        """The handlers at this moment; SQLAlchemy's registrar may have got and lost some since."""
        if self._handlers is None:
            self._handlers = self._declarations.decorated(self._config.default_schema)
        return self._handlers + self._declarations.registered(self._config.default_schema)

    @property
    def tables(self) -> list[TableName]:
        """The tables to capture, in a fixed order: processes that install them never wait crosswise.

        :raises ConfigurationError: a model belongs to another database.
        """
        if self._tables is None:
            targets = self._declarations.targets(self._config.default_schema)
            for target in targets:
                self._database.check(target, self._app)
            self._tables = sorted(target.name for target in targets)
        return self._tables

    def check(self) -> None:
        """Resolve everything once, so that a mistake shows at registration.

        :raises ConfigurationError: names the mistake.
        """
        _ = self.tables, self.gate

    def installer(self) -> Installer:
        return Installer(
            self._database.dsn,
            max_row_bytes=self._config.max_row_bytes,
            lock_timeout_seconds=self._config.lock_timeout_seconds,
            connect_timeout_seconds=self._config.connect_timeout_seconds,
        )

    def ensure(self) -> None:
        """Do what PGEVENTS_INSTALL says about missing triggers. What cannot be installed is logged, and does not
        keep the other tables from being heard."""
        tables = self.tables
        if self._config.install == "off":
            return
        installer = self.installer()
        try:
            if self._config.install == "auto":
                status = waiting.run_blocking(installer.install, tables)
            else:
                status = waiting.run_blocking(installer.status, tables)
        except InstallError as error:
            log.error("%s", error)
            status = waiting.run_blocking(installer.status, tables)
        self._note(tables, status)

    def _note(self, tables: list[TableName], status: Status) -> None:
        captured = frozenset(t for t in tables if status.tables.get(t) == "current")
        wanting = [f"{t} is {status.tables.get(t)}" for t in tables if t not in captured]
        if captured == self._ensured and wanting:
            self._look_seconds = min(LONGEST_LOOK_SECONDS, 2 * self._look_seconds)
        else:
            self._look_seconds = FIRST_LOOK_SECONDS
            if wanting:
                log.warning("not captured: %s. See: flask pgevents status", ", ".join(wanting))
        self._ensured = captured
        self._next_look = time.monotonic() + self._look_seconds

    def look_again(self) -> None:
        """Look for tables that came up since: declared late, or created late."""
        if not self._ensured.issuperset(self.tables) and time.monotonic() >= self._next_look:
            self.ensure()

    def named(self, table: sa.Table) -> TableName:
        return TableName(table.schema or self._config.default_schema, table.name)

    def created(self, name: TableName, connection: sa.Connection) -> None:
        """A table was created by SQLAlchemy: capture it in the same transaction, so that its first row is not
        missed. If that fails the table still stays, and the listener tries again."""
        if self._config.install != "auto" or name not in self.tables or not self._database.is_at(connection.engine.url):
            return
        try:
            with connection.begin_nested():
                install_with(
                    _executor(connection),
                    [name],
                    max_row_bytes=self._config.max_row_bytes,
                    lock_timeout_seconds=self._config.lock_timeout_seconds,
                )
        except (InstallError, sa.exc.SQLAlchemyError) as error:
            log.warning("%s was created, but is not captured yet: %s", name, error)


def _executor(connection: sa.Connection) -> Callable[[str], Any]:
    def execute(statement: str) -> Any:
        result = connection.exec_driver_sql(statement)
        return result.fetchall() if result.returns_rows else None

    return execute


# Every app's tables; SQLAlchemy's hook is one for the whole process.
_all: weakref.WeakSet[Captured] = weakref.WeakSet()


def _listen_to_create_all(captured: Captured) -> None:
    if not sa.event.contains(sa.Table, "after_create", _after_create):
        sa.event.listen(sa.Table, "after_create", _after_create)
    _all.add(captured)


def _after_create(table: sa.Table, connection: Any, **_: object) -> None:
    if isinstance(connection, sa.Connection) and connection.dialect.name == "postgresql":
        for captured in list(_all):
            captured.created(captured.named(table), connection)
