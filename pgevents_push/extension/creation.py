"""Creation: a table that SQLAlchemy creates is captured in the same transaction, so its first row is not missed."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import sqlalchemy as sa

from pgevents_push.capture import Mode, Retention, install_with
from pgevents_push.config import Config
from pgevents_push.errors import InstallError
from pgevents_push.event import TableName
from pgevents_push.extension.database import Database

log = logging.getLogger(__name__)


class Capturing(Protocol):
    """An app that captures tables."""

    config: Config
    database: Database

    @property
    def tables(self) -> list[TableName]: ...

    def mode(self, table: TableName) -> Mode: ...


# SQLAlchemy's hook is one for the whole process.
_all: weakref.WeakSet[Capturing] = weakref.WeakSet()


def capture_on_creation(app: Capturing) -> None:
    """Capture this app's tables when `db.create_all()`, or any other `create()`, makes them."""
    if not sa.event.contains(sa.Table, "after_create", _after_create):
        sa.event.listen(sa.Table, "after_create", _after_create)
    _all.add(app)


def _after_create(table: sa.Table, connection: Any, **_: object) -> None:
    if not isinstance(connection, sa.Connection) or connection.dialect.name != "postgresql":
        return
    for app in list(_all):
        name = TableName(table.schema or app.config.default_schema, table.name)
        if app.config.install == "auto" and name in app.tables and app.database.is_at(connection.engine.url):
            _install(name, connection, app)


def _install(name: TableName, connection: sa.Connection, app: Capturing) -> None:
    """If it fails the table still stays, and the listener tries again."""
    config = app.config
    try:
        with connection.begin_nested():
            install_with(
                _executor(connection),
                [name],
                max_row_bytes=config.max_row_bytes,
                retention=Retention(config.retention_seconds, config.retention_rows),
                lock_timeout_seconds=config.lock_timeout_seconds,
                modes=app.mode,
            )
    except (InstallError, sa.exc.SQLAlchemyError) as error:
        log.warning("%s was created, but is not captured yet: %s", name, error)


def _executor(connection: sa.Connection) -> Callable[[str], Any]:
    def execute(statement: str) -> Any:
        result = connection.exec_driver_sql(statement)
        return result.fetchall() if result.returns_rows else None

    return execute
