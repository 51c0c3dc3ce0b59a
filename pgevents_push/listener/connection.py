"""A private, asynchronous psycopg2 connection: open, ask, wait for a notification, close. Never blocks the hub.

It is waited for with `waiting`, so it needs no global psycopg2 wait callback and leaves the app's
own connections alone. Every wait has a deadline: a server that is frozen or behind a dead network would
otherwise never be noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import psycopg2
import sqlalchemy as sa
from psycopg2 import errors, extensions
from sqlalchemy.dialects.postgresql import psycopg2 as psycopg2_dialect

from pgevents_push import waiting
from pgevents_push.errors import ConnectionLost, Overdue, Refused
from pgevents_push.listener.addresses import with_addresses
from pgevents_push.listener.statements import Prepared
from pgevents_push.listener.wake import Wake
from pgevents_push.process import process

# What pg_stat_activity shows, whatever name the app's own connections have.
APPLICATION_NAME = "pgevents_push"

Rows = list[tuple[Any, ...]]
Heard = Literal["rung", "interrupted", "silent"]

# Set by a statement, not by startup options, which poolers refuse. The log is always read along its index: before
# its first ANALYZE the planner guesses that a third of it is new, and scans and sorts it for every piece (13 s
# instead of 2 s for a transaction of 200,000 rows); JIT and parallel workers cost milliseconds and save none.
# Times are sent as UTC, so that is no matter of taste. A serializable reader, where the role or the database has that
# as its default, would make writers fail.
_SETTINGS = """
SELECT set_config('TimeZone', 'UTC', {local}), set_config('enable_seqscan', 'off', {local}),
       set_config('enable_bitmapscan', 'off', {local}), set_config('jit', 'off', {local}),
       set_config('max_parallel_workers_per_gather', '0', {local}),
       set_config('plan_cache_mode', 'force_generic_plan', {local}),
       set_config('statement_timeout', '{milliseconds}', {local}), set_config('lock_timeout', '{lock}', {local}),
       set_config('default_transaction_isolation', 'read committed', {local}),
       set_config('default_transaction_deferrable', 'off', {local})
"""
# The lock comes before the first SELECT, with which the snapshot is taken: a table that is rewritten or emptied between
# the two would look empty. PostgreSQL keeps the deadlines too, for the case that this process is stopped meanwhile.
_BEGIN = """
BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY, NOT DEFERRABLE;
SET LOCAL statement_timeout = {milliseconds};
SET LOCAL lock_timeout = {lock};
SET LOCAL idle_in_transaction_session_timeout = {milliseconds};
LOCK TABLE {tables} IN ACCESS SHARE MODE;
"""
# Whatever PGCLIENTENCODING says: a text that the client's encoding lacks would end each reading of it, for ever.
_ENCODING = {"client_encoding": "UTF8"}
# Only in the session that libpq was told of: a pooler gives its clients made-up process ids.
_ONLY_HERE = " WHERE pg_backend_pid() = {pid}"
# A second connection that gets a backend which this one has just used proves that they are shared. Poolers hand
# out the one that was used last; other clients may be quicker, so it is tried again.
SHARED_TRIES = 3
SHARED_SECONDS = 2.0
# A statement is sent at once, so the first thing to do is to wait for the answer. Only libpq knows of one that did not
# fit into the socket, or was answered meanwhile: it is asked after so long, and not before, which costs 12 us.
SENT_SECONDS = 0.01
# How much of the time for an answer the server may take, and wait for a lock. It gives up before we do: so one that is
# gone, one that has too much to do and one that somebody else keeps waiting are told apart.
SERVERS_SHARE, LOCKS_SHARE = 0.9, 0.8
# Errors that are not the statement's own fault: connection, idle in a transaction, collisions, resources, locks, an
# administrator or a restart, the system. All others would come again; functions may raise whatever code they like.
_NOT_ITS_FAULT = ("08", "25P03", "40", "53", "55", "57", "58")
# Linux notices a vanished peer after 10 + 3 * 5 s without our asking; the deadline of each answer is shorter still.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class Connection:
    """One connection to PostgreSQL, used by one greenlet or thread.

    :param dsn: libpq's connection parameters.
    :param timeout: seconds within which the server must answer.

    `pooled`: somebody stands between, so the session may be another one with each transaction. Settings of ours
    would then stay behind in the sessions of others; they go before each statement instead, in one implicit
    transaction with it.
    """

    def __init__(self, dsn: Mapping[str, Any], timeout: float) -> None:
        self._dsn = dsn
        self._timeout = timeout
        self._process = process()
        self._before = ""
        self._until: float | None = None
        self._overslept = 0.0
        self._prepared: set[str] = set()
        self._connection: Any = None
        self._wake = Wake()
        self._watch = waiting.Watch()
        try:
            parameters = {**_KEEPALIVE, **dsn, **_ENCODING, "application_name": APPLICATION_NAME}
            self._connection = psycopg2.connect(**with_addresses(parameters), async_=1)
            self._finish(time.monotonic() + timeout)
            self._fd = self._connection.fileno()
            self._watch = waiting.Watch(self._fd, self._wake.fileno())
            self._set_up(timeout)
        except BaseException as error:
            self.close()
            if isinstance(error, psycopg2.Error):
                raise ConnectionLost(_first_line(error)) from error
            raise

    def _set_up(self, timeout: float) -> None:
        here = _ONLY_HERE.format(pid=self._connection.info.backend_pid)
        limits = _limits(timeout, timeout)
        self.pooled = not self.execute(_SETTINGS.format(local="false", **limits) + here)
        if self.pooled:
            self._before = _SETTINGS.format(local="true", **limits) + ";"

    def _finish(self, deadline: float) -> None:
        """Drive libpq until it needs nothing more."""
        while (state := self._connection.poll()) != extensions.POLL_OK:
            fd = self._connection.fileno()
            read, write = ((fd,), ()) if state == extensions.POLL_READ else ((), (fd,))
            left = deadline - time.monotonic()
            if left <= 0 or not waiting.wait_any(read, write, left):
                raise ConnectionLost(f"PostgreSQL did not answer within {self._timeout:g} s")
            self._stay_in_process()

    def _stay_in_process(self) -> None:
        """A process that is forked under gevent runs a copy of the greenlet that waits here: it must not take
        the answers of its parent.

        :raises ConnectionLost: this is a forked child.
        """
        if self._process != process():
            raise ConnectionLost("this connection is the parent process's")

    def execute(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Rows:
        """Run one statement and return its rows. One that is `Prepared` is planned once in a session of our own.

        :raises ConnectionLost: the server is gone, refused the statement, or did not answer in time (Overdue: it says
            so itself; Refused: so it would the next time). The connection must not be used again: nobody knows what
            state it is in.
        """
        if isinstance(statement, Prepared) and not self.pooled:
            if statement.name not in self._prepared:
                self.execute(statement.command)
                self._prepared.add(statement.name)
            if isinstance(parameters, Mapping) and (filled := statement.filled(parameters)) is not None:
                statement, parameters = filled, None
            else:
                statement = statement.call
        try:
            cursor = self._connection.cursor()
            cursor.execute(self._before + statement, parameters)
            self._wait_any((self._fd,), SENT_SECONDS)
            self._stay_in_process()
            self._finish(time.monotonic() + self._timeout if self._until is None else self._until)
            return cursor.fetchall() if cursor.description else []
        except (errors.UndefinedTable, errors.UndefinedFunction, errors.InvalidSchemaName) as error:
            raise Refused(f"{_first_line(error)}. Run: flask pgevents install", _first_line(error)) from error
        except errors.InsufficientPrivilege as error:
            remedy = "Run `flask pgevents install --reader ROLE`, with our role, as the one that installed it."
            raise Refused(f"{_first_line(error)}. {remedy}", _first_line(error)) from error
        except errors.QueryCanceled as error:
            raise Overdue(_first_line(error)) from error
        except psycopg2.Error as error:
            if error.pgcode and not error.pgcode.startswith(_NOT_ITS_FAULT):
                raise Refused(_first_line(error), type(error).__name__) from error
            raise ConnectionLost(_first_line(error)) from error

    @contextmanager
    def transaction(self, tables: Sequence[str], seconds: float) -> Iterator[Callable[..., Rows]]:
        """Give an `execute` whose statements all see one moment of some tables. Its session stays ours that long,
        behind a pooler in transaction mode too.

        :param tables: written as in SQL. They cannot be altered or emptied meanwhile.
        :param seconds: how long it may take, all in all.
        :raises ConnectionLost: as `execute`, also when it took longer. The connection must not be used again then,
            nor after any other exception within the block.
        """
        before, self._before, self._until = self._before, "", time.monotonic() + seconds
        limits = _limits(seconds, min(seconds, self._timeout))
        self.execute(_BEGIN.format(**limits, tables=", ".join(tables)) + _SETTINGS.format(local="true", **limits))
        yield self.execute
        self.execute("COMMIT")
        self._before, self._until = before, None

    def is_shared(self) -> bool:
        """Whether others use the same sessions, as behind a pooler in transaction mode: then nothing that belongs to
        a session works, neither LISTEN nor its locks. Asks only when `pooled`; a pooler in session mode is fine.

        :raises ConnectionLost: the server is gone.
        """
        return self.pooled and any(self._meets_another() for _ in range(SHARED_TRIES))

    def _meets_another(self) -> bool:
        [[before]] = self.execute("SELECT pg_backend_pid()")
        try:
            other = Connection(self._dsn, min(SHARED_SECONDS, self._timeout))
        except ConnectionLost:
            return False  # the pool is used up: only sessions are held for so long
        try:
            [[met]] = other.execute("SELECT pg_backend_pid()")
        finally:
            other.close()
        [[after]] = self.execute("SELECT pg_backend_pid()")
        return bool(before == met or before != after)

    def wait(self, timeout: float) -> Heard:
        """Wait for a notification; tell whether one came, `interrupt` was called, or neither.

        :raises ConnectionLost: the server closed the connection.
        """
        # libpq may hold a notification that came behind the last result: the socket looks idle then.
        if self._take_notifications():
            return "rung"
        ready = self._wait_any((self._fd, self._wake.fileno()), timeout)
        if self._take_notifications():
            return "rung"
        return self._interrupted(ready)

    def pause(self, timeout: float) -> Heard:
        """Wait whatever comes from the server, and forget it: for the time when somebody rings without end. What has
        arrived is taken from the socket with the next answer."""
        heard = self._interrupted(self._wait_any((self._wake.fileno(),), timeout))
        self._stay_in_process()
        self._connection.notifies.clear()
        return heard

    def _wait_any(self, read: Sequence[int], timeout: float) -> set[int]:
        began = time.monotonic()
        ready = self._watch.wait(read, timeout)
        self._overslept = max(self._overslept, time.monotonic() - began - timeout)
        return ready

    def take_overslept(self) -> float:
        """Return by how many seconds a wait since the last time took longer than it was allowed to."""
        overslept, self._overslept = self._overslept, 0.0
        return overslept

    def _interrupted(self, ready: set[int]) -> Heard:
        if self._wake.fileno() not in ready:
            return "silent"
        self._wake.clear()
        return "interrupted"

    def _take_notifications(self) -> bool:
        """Take what has arrived; its payload means nothing: any role may send one."""
        self._stay_in_process()
        try:
            self._connection.poll()
            rung = bool(self._connection.notifies)
            self._connection.notifies.clear()
            return rung
        except psycopg2.Error as error:
            raise ConnectionLost(_first_line(error)) from error

    def interrupt(self) -> None:
        """Make `wait` return; callable from other greenlets and threads."""
        self._wake.set()

    def close(self) -> None:
        """Close the connection. Closed already: does nothing."""
        self._watch.close()
        self._wake.close()
        # In a forked child: to say good-bye would end the parent's session.
        if self._connection is not None and self._process == process():
            self._connection.close()


def _limits(seconds: float, lock_seconds: float) -> dict[str, int]:
    return {"milliseconds": _milliseconds(seconds * SERVERS_SHARE), "lock": _milliseconds(lock_seconds * LOCKS_SHARE)}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would mean: no limit


def libpq_parameters(url: sa.URL) -> dict[str, Any]:
    """Return what a SQLAlchemy URL means to libpq, whatever driver the app uses."""
    dialect: Any = psycopg2_dialect.dialect
    _, parameters = dialect().create_connect_args(url.set(drivername="postgresql+psycopg2"))
    return dict(parameters)


def _first_line(error: psycopg2.Error) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def has_wait_callback() -> bool:
    """Whether psycopg2 was told how to wait without blocking, as `psycogreen` does it for the app's own queries."""
    return extensions.get_wait_callback() is not None
