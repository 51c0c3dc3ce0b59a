"""Install, check and take back the triggers: short, blocking connections that are polite to everybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.errors

from pgevents_push.capture import render
from pgevents_push.capture.render import KEEP, Modes, Retention, by_row
from pgevents_push.capture.status import Execute, Status, read_status
from pgevents_push.capture.tables import literal, quote, quoted
from pgevents_push.chance import between
from pgevents_push.errors import ConnectionLost, InstallError
from pgevents_push.event import TableName

# With the default lock_timeout of 2 s this is half a minute of trying; writers wait at most 2 s at a time.
ATTEMPTS = 10
PAUSE_SECONDS = (0.05, 0.5)
# These connections block, and the listener waits for them: of a network that swallows everything TCP itself must tell.
# By default it does after a quarter of an hour, or of a peer that owes an answer after two hours.
_GONE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
# Another installer in another database of the cluster touched the same role, or a table is busy.
_TRY_AGAIN = (
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.InternalError_,
)


def install_with(
    execute: Execute,
    tables: Sequence[TableName],
    *,
    max_row_bytes: int,
    retention: Retention = KEEP,
    lock_timeout_seconds: float = 2.0,
    reader: str | None = None,
    modes: Modes = by_row,
) -> Status:
    """Install through somebody else's connection, in the transaction that is open there.

    :param execute: runs one statement without parameters; returns its rows, or None when it has none.
    :raises InstallError: something may not be touched. The driver's own errors pass through.
    """
    before = read_status(execute, tables, modes)
    if before.complete and reader is None:
        return before
    kept = _settings(execute)
    for statement in render.transaction_start(lock_timeout_seconds):
        execute(statement)
    made = render.schema_statements(max_row_bytes, retention)
    for statement in _statements(read_status(execute, tables, modes), made, reader, modes):
        execute(statement)
    after = read_status(execute, tables, modes)
    for name, value in kept.items():
        execute(f"SELECT pg_catalog.set_config({literal(name)}, {literal(value)}, true)")
    return _checked(after)


def _settings(execute: Execute) -> dict[str, str]:
    names = ("search_path", "lock_timeout")
    asked = ", ".join(f"pg_catalog.current_setting({literal(name)})" for name in names)
    return dict(zip(names, (execute(f"SELECT {asked}") or [("", "")])[0], strict=True))


def _statements(status: Status, schema: list[str], reader: str | None, modes: Modes) -> list[str]:
    """Return what is to do, and nothing else. `schema` is what makes the schema."""
    wanted = [] if status.schema == "current" else schema
    wanted = wanted + (render.reader_statements(reader) if reader else [])
    for name in status.to_do:
        wanted += render.table_statements(name, modes(name))
    if wanted and not status.trusted:
        raise InstallError(
            f"The schema pgevents belongs to the role {status.owner!r}, whose functions would see every row."
            f" Install as that role, or let a superuser run ALTER SCHEMA pgevents OWNER TO pgevents_owner."
        )
    return wanted


def _checked(status: Status) -> Status:
    if status.refused:
        listed = "; ".join(f"{name}: {reason}" for name, reason in status.refused.items())
        raise InstallError(f"These cannot be captured: {listed}.")
    return status


class Installer:
    """Installs into one database.

    :param dsn: keyword arguments for psycopg2.connect().
    :param max_row_bytes: rows whose JSON is longer are logged as key and `truncated`.
    :param retention: how long and how much the log keeps.
    :param modes: tells how a table is to be captured.
    :param lock_timeout_seconds: how long one attempt may wait for a table, and writers behind it.
    :param connect_timeout_seconds: deadline for connecting; PostgreSQL counts whole seconds, at least 2.
    """

    def __init__(
        self,
        dsn: Mapping[str, Any],
        *,
        max_row_bytes: int,
        lock_timeout_seconds: float,
        connect_timeout_seconds: float,
        retention: Retention = KEEP,
        modes: Modes = by_row,
    ) -> None:
        # The encoding: a name that PGCLIENTENCODING cannot say must not end the looking.
        own = {"client_encoding": "UTF8", "connect_timeout": max(2, round(connect_timeout_seconds))}
        self._dsn = {**_GONE, **dsn, **own}
        self._max_row_bytes = max_row_bytes
        self._retention = retention
        self._modes = modes
        self._lock_timeout_seconds = lock_timeout_seconds

    def status(self, tables: Sequence[TableName]) -> Status:
        """Compare the database with what should be in it. Writes nothing and waits for no lock.

        :raises InstallError: the role may not even look.
        :raises ConnectionLost: the database cannot be reached.
        """
        with self._connection() as connection:
            return read_status(_executor(connection), tables, self._modes)

    def install(self, tables: Sequence[TableName], *, reader: str | None = None, force: bool = False) -> Status:
        """Make everything current. Nothing to do: writes nothing. Tables that do not exist yet are passed over.

        :param reader: one more role that may read the log.
        :param force: write everything again, so that another `max_row_bytes` or `retention` takes effect.
        :raises InstallError: a table is refused or stays locked, or a privilege is missing; names the remedy.
        :raises ConnectionLost: the database cannot be reached.
        """
        with self._connection() as connection:
            before = read_status(_executor(connection), tables, self._modes)
            if force or before.schema != "current" or reader is not None:
                self._patiently(connection, [], reader=reader, force=force)
            for name in before.to_do:
                self._patiently(connection, [name])
            return _checked(read_status(_executor(connection), tables, self._modes))

    def uninstall(self, tables: Sequence[TableName] | None = None, *, everything: bool = False) -> None:
        """Stop capturing these tables, or take back everything of ours in this database.

        :raises InstallError: a table stays locked, or a privilege is missing.
        :raises ConnectionLost: the database cannot be reached.
        """
        with self._connection() as connection:
            for name in tables or ():
                self._run(connection, name, _always(render.uninstall_table_statements(name)))
            if everything:
                self._run(connection, None, _always(render.uninstall_statements()))

    def _patiently(
        self, connection: Any, tables: list[TableName], reader: str | None = None, force: bool = False
    ) -> None:
        def statements(execute: Execute) -> list[str]:
            # Asked again behind the lock: of twelve processes that start at once, one has work.
            status = read_status(execute, tables, self._modes)
            made = render.schema_statements(self._max_row_bytes, self._retention, always=force)
            return _statements(status.outdated() if force else status, made, reader, self._modes)

        self._run(connection, tables[0] if tables else None, statements)

    def _run(self, connection: Any, name: TableName | None, statements: Callable[[Execute], list[str]]) -> None:
        """Run statements in one transaction; again, a little later, when somebody else was in the way."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with connection:  # psycopg2: commits, or rolls back on an error
                    execute = _executor(connection)
                    for statement in render.transaction_start(self._lock_timeout_seconds):
                        execute(statement)
                    for statement in statements(execute):
                        execute(statement)
                return
            except _TRY_AGAIN as error:
                if attempt == ATTEMPTS:
                    raise InstallError(_busy(name, error)) from error
                time.sleep(between(*PAUSE_SECONDS))
            except psycopg2.errors.InsufficientPrivilege as error:
                raise InstallError(_not_allowed(name, self._role(connection), error)) from error
            except psycopg2.OperationalError as error:
                raise ConnectionLost(f"The connection to PostgreSQL broke: {_first_line(error)}") from error
            except psycopg2.Error as error:
                what = f"The trigger on {name}" if name else "The schema pgevents"
                raise InstallError(f"{what} could not be changed: {_first_line(error)}") from error

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        try:
            connection = psycopg2.connect(**self._dsn)
        except psycopg2.Error as error:  # ProgrammingError: libpq does not know a parameter
            raise ConnectionLost(f"PostgreSQL cannot be reached: {_first_line(error)}") from error
        try:
            yield connection
            # A pooler throws a session away whose client leaves in the middle of a transaction.
            connection.rollback()
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise ConnectionLost(f"The connection to PostgreSQL broke: {_first_line(error)}") from error
        except psycopg2.errors.InsufficientPrivilege as error:
            role = self._role(connection)
            raise InstallError(
                f"The role {role!r} may not read what is installed: {_first_line(error)}."
                f" Run `flask pgevents install --reader {role}` as the role that installed it."
            ) from error
        except psycopg2.Error as error:
            raise InstallError(f"What is installed could not be read: {_first_line(error)}") from error
        finally:
            connection.close()

    @staticmethod
    def _role(connection: Any) -> str:
        try:
            connection.rollback()
            return str((_executor(connection)("SELECT current_user") or [("?",)])[0][0])
        except psycopg2.Error:  # it was dropped meanwhile
            return "?"


def _always(statements: list[str]) -> Callable[[Execute], list[str]]:
    return lambda _: statements


def _executor(connection: Any) -> Execute:
    def execute(statement: str) -> list[Any] | None:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else None

    return execute


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _busy(name: TableName | None, error: Exception) -> str:
    what = f"The table {name}" if name else "The schema pgevents"
    return (
        f"{what} stayed locked ({_first_line(error)}), {ATTEMPTS} attempts. Look for a long transaction in"
        " pg_stat_activity, then run `flask pgevents install`, perhaps with a larger PGEVENTS_LOCK_TIMEOUT_SECONDS."
    )


def _not_allowed(name: TableName | None, role: str, error: Exception) -> str:
    said = f"The role {role!r} may not do this: {_first_line(error)}."
    if name is None:
        return (
            f"{said} Run `flask pgevents install --reader {role}` as a role that may create a schema, or"
            f" GRANT CREATE ON DATABASE … TO {quote(role)}."
        )
    return (
        f"{said} Run `flask pgevents install` as the owner of {name}, or"
        f" GRANT TRIGGER ON {quoted(name)} TO {quote(role)}."
    )
