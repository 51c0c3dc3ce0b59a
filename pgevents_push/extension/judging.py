"""Judging: changes wait in line for PostgreSQL's word on who may see them, beside the listener and not in it."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from pgevents_push import waiting
from pgevents_push.errors import ConnectionLost
from pgevents_push.event import TableName
from pgevents_push.extension.row_security import RowSecurity
from pgevents_push.hub import Pending, Persona
from pgevents_push.listener import Connection

log = logging.getLogger(__name__)

# For clients that come back and those that are new: so many ask at the same time, each on a connection.
READERS = 2
RETRY_SECONDS = 0.5
# A policy that takes long must not keep a process from ending.
STOP_SECONDS = 1.0


class Judging:
    """The hub's judge. Nobody waits for `put`: one task answers what stands in line, in order. The mailboxes keep the
    places of what is not answered yet."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._line: deque[Pending] = deque()
        self._changed = threading.Condition()
        self._turns = threading.BoundedSemaphore(READERS)
        self._idle: list[RowSecurity] = []
        self._task: waiting.Task | None = None
        self._stopping = False
        self._pid = os.getpid()

    def put(self, pending: Sequence[Pending]) -> None:
        """Judge these soon."""
        with self._changed:
            self._line.extend(pending)
            self._changed.notify()
            if self._task is None and not self._stopping:
                self._task = waiting.spawn(self._run, name="pgevents-row-security")

    def answer(self, pending: Sequence[Pending]) -> None:
        """Judge these now.

        :raises ConnectionLost: the database is away.
        """
        with self._borrowed() as security:
            security.answer(pending)

    def verify(self, persona: Persona, table: TableName, columns: Iterable[str]) -> None:
        """Make sure that PostgreSQL restricts what this persona sees.

        :raises RowSecurityError: it does not, or the persona may not read the table.
        :raises ConnectionLost: the database is away.
        """
        with self._borrowed() as security:
            security.verify(persona, table, columns)

    @contextmanager
    def _borrowed(self) -> Iterator[RowSecurity]:
        with self._turns:
            try:
                security = self._idle.pop()
            except IndexError:
                security = RowSecurity(self._connect)
            try:
                yield security
            finally:
                self._idle.append(security)
                if self._stopping:
                    self._close_idle()

    def _run(self) -> None:
        security = RowSecurity(self._connect)
        while (line := self._next()) is not None:
            self._judge(security, line)
        security.close()

    def _next(self) -> list[Pending] | None:
        """Take all that stands in line; None when it is time to end, also in a forked child's copy of this task."""
        with self._changed:
            while not self._line and not self._stopping:
                self._changed.wait()
            if self._stopping or self._pid != os.getpid():
                return None
            line = list(self._line)
            self._line.clear()
            return line

    def _judge(self, security: RowSecurity, line: list[Pending]) -> None:
        while not self._stopping:
            try:
                security.answer([one for one in line if not one.is_ready])
                return
            except ConnectionLost as error:
                log.debug("who may see changes is asked again: %s", error)
                waiting.sleep(RETRY_SECONDS)
            except Exception:  # a bug of ours: those clients are told, and the others go on
                log.exception("changes could not be judged")
                for one in line:
                    if not one.is_ready:
                        one.give_up("schema")

    def stop(self) -> None:
        """End, and close the connections. Not running: does nothing."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._close_idle()
        if self._task is not None:
            self._task.join(STOP_SECONDS)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()
