"""Pump: the manual way of flask-sqlalchemy-pgevents. `listen` registers, `handle_events` calls, in the caller's thread.

Functions that are registered here are called by `handle_events` only, never by the background listener, so a
program that keeps its old loop gets each event once.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pgevents_push.capture import Target, resolve
from pgevents_push.cursor import Cursor
from pgevents_push.errors import ConnectionLost, CursorError, NotRegisteredError, TargetError
from pgevents_push.event import ChangeEvent
from pgevents_push.extension import Runtime
from pgevents_push.listener import Connection, Doorbell, is_kept, read_position, read_since

log = logging.getLogger(__name__)

# What that package calls an identifier, and what it sends to the function.
IDENTIFIERS = ("insert", "update", "delete")

Callback = Callable[[uuid.UUID, Any, str], object]


# A forked child keeps its parent's connection: letting go of it would end the parent's session.
_inherited: list[Connection | None] = []


@dataclass(frozen=True)
class Trigger:
    """One registered function."""

    target: object
    identifiers: frozenset[str]
    callback: Callback


class Pump:
    """The registered functions of one PGEvents, and the position up to which they were called."""

    def __init__(self) -> None:
        self.triggers: list[Trigger] = []
        self._runtime: Runtime | None = None
        self._cursor: Cursor | None = None
        self._connection: Connection | None = None
        self._doorbell: Doorbell | None = None
        self._pid = 0

    def check(self, target: object, identifiers: Collection[str]) -> None:
        """Refuse what cannot be listened to.

        :raises TargetError: (a ValueError) no identifier, an unknown one, or no table.
        """
        if not identifiers or isinstance(identifiers, str):
            raise TargetError(f"At least one identifier must be given, as a set: {{'insert'}}, not {identifiers!r}.")
        if unknown := set(identifiers).difference(IDENTIFIERS):
            raise TargetError(f"Invalid identifiers: {sorted(unknown)}. They are: {', '.join(IDENTIFIERS)}.")
        resolve(target)

    def listen(self, target: object, identifiers: Collection[str], callback: Callback) -> None:
        """Register a function. With an app already, the trigger is installed and events count from now on."""
        self.triggers.append(Trigger(target, frozenset(identifiers), callback))
        if self._runtime is not None:
            self._install()

    def register(self, runtime: Runtime) -> None:
        """The app is there: install what was deferred, and count events from now on."""
        self._runtime = runtime
        if self.triggers:
            self._install()

    def _install(self) -> None:
        assert self._runtime is not None
        self._runtime.installer().install(self._runtime.tables)
        if self._cursor is None:
            connection = self._connect()
            self._cursor = read_position(connection.execute)
            # Closed again: a process that is forked later must not inherit it.
            connection.close()

    def _connect(self) -> Connection:
        assert self._runtime is not None
        return Connection(self._runtime.database.dsn, self._runtime.config.connect_timeout_seconds)

    def handle_events(self, timeout: float) -> None:
        """Call the functions for what was committed since the last call; an exception of theirs is passed on,
        and the next call goes on after that event.

        :param timeout: seconds to wait when nothing was.
        :raises NotRegisteredError: (a RuntimeError) there is no app yet.
        :raises ConnectionLost: PostgreSQL is gone; the next call reconnects and misses nothing.
        """
        if self._runtime is None:
            raise NotRegisteredError("Extension not initialized: there is no app yet. Call init_app(app) first.")
        try:
            connection = self._open(self._runtime)
            if not self._drain(connection) and timeout > 0:
                self._wait(connection, time.monotonic() + timeout)
        except ConnectionLost:
            self.close()
            raise

    def _wait(self, connection: Connection, ends: float) -> None:
        """Wait until a function was called, or the time is over. Nobody rings for a program that is elsewhere."""
        assert self._doorbell is not None
        while (left := ends - time.monotonic()) > 0:
            self._doorbell.wait(False, left)
            if self._drain(connection):
                break
        self._doorbell.leave()

    def _open(self, runtime: Runtime) -> Connection:
        if self._connection is None or self._pid != os.getpid():
            _inherited.append(self._connection)
            self._connection, self._pid = self._connect(), os.getpid()
            self._doorbell = Doorbell(self._connection, runtime.config.poll_seconds, runtime.config.wakeup)
            self._doorbell.hang()
            self._look_where_we_are(self._connection)
        if self._cursor is None:
            runtime.installer().install(runtime.tables)
            self._cursor = read_position(self._connection.execute)
        return self._connection

    def _look_where_we_are(self, connection: Connection) -> None:
        position = read_position(connection.execute) if self._cursor is not None else None
        if position is None or self._cursor is None:
            return
        if position.epoch != self._cursor.epoch or not position.is_past(self._cursor):
            self._lose(position, "this is another database, or one that was restored")

    def _lose(self, position: Cursor, why: str) -> None:
        log.error("handle_events may have missed changes, going on from now: %s", why)
        self._cursor = position

    def _drain(self, connection: Connection) -> int:
        assert self._cursor is not None
        called, start = 0, self._cursor
        try:
            for batch in read_since(connection.execute, start, 1000):
                for event in batch.events:
                    self._cursor = Cursor.parse(event.cursor)
                    called += self._call(event, self._cursor.epoch)
                self._cursor = batch.cursor
        except CursorError as error:
            self._lose(read_position(connection.execute), str(error))
        if not is_kept(connection.execute, start.snapshot):
            self._lose(read_position(connection.execute), "it was called so late that the log had been emptied")
        return called

    def _call(self, event: ChangeEvent, epoch: str) -> int:
        callbacks = list(self._matching(event))
        for callback in callbacks:
            callback(uuid.uuid5(uuid.NAMESPACE_OID, f"{epoch}/{event.id}"), _row_id(event), event.type.upper())
        return len(callbacks)

    def _matching(self, event: ChangeEvent) -> Iterator[Callback]:
        assert self._runtime is not None
        schema = self._runtime.config.default_schema
        for trigger in self.triggers:
            target: Target = resolve(trigger.target, schema)
            if target.name == event.table_name and event.type in trigger.identifiers:
                yield trigger.callback

    def close(self) -> None:
        """Close the connection; the position is kept. Closed already: does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()


def _row_id(event: ChangeEvent) -> Any:
    """The key's value where it is one column, as that package sent it; else the whole key."""
    values = list(event.pk.values())
    return values[0] if len(values) == 1 else event.pk
