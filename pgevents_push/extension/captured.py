"""Captured: the tables of one app, and whether its database captures them: installs what is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pgevents_push import waiting
from pgevents_push.capture import Installer, Status
from pgevents_push.config import Config
from pgevents_push.errors import PGEventsError
from pgevents_push.event import TableName

log = logging.getLogger(__name__)

# How often a table that is missing is looked for: at first soon (a migration is running), then seldom.
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 1.0, 15.0

Report = Callable[["frozenset[TableName] | None"], None]


class Captured:
    """Sees to it, in the background of a running listener, that tables are captured. One busy table must not
    keep the others from being heard, so installing is no part of the listener's loop.

    :param tables: the tables that are to be captured at this moment.
    :param report: told which tables are; None when nobody looks (PGEVENTS_INSTALL="off").

    `looked` is True once the first look was done: what could be installed is.
    """

    def __init__(
        self, installer: Installer, config: Config, tables: Callable[[], list[TableName]], report: Report
    ) -> None:
        self._installer = installer
        self._mode = config.install
        self._tables = tables
        self._report = report
        self._captured: frozenset[TableName] = frozenset()
        self._said: str | None = None
        self._due = 0.0
        self._pause = FIRST_LOOK_SECONDS
        self._looking = False
        self.looked = self._mode == "off"
        if not self.looked:
            report(self._captured)

    @property
    def count(self) -> int | None:
        """How many tables are captured; None when nobody looks."""
        return None if self._mode == "off" else len(self._captured)

    def prepare(self) -> None:
        """Make sure that there is a log to read, and look after the tables soon. Runs before each connection of
        the listener."""
        self._due = 0.0
        if self._mode == "auto":
            self._try(lambda: self._installer.install([]))

    def look(self) -> None:
        """Look, in the background, after tables that are not captured yet: missing, declared late, created late.
        Cheap when nothing is wanting; the listener calls it each time round."""
        if self._mode == "off" or self._looking or time.monotonic() < self._due:
            return
        if self._due and self._captured.issuperset(self._tables()):
            return
        self._looking = True
        waiting.spawn(self._look, name="pgevents-install")

    def declared(self) -> None:
        """A table was declared: look for it at once."""
        self._due = min(self._due, time.monotonic())

    def _look(self) -> None:
        try:
            tables = self._tables()
            installing = self._mode == "auto"
            status = self._try(lambda: self._installer.install(tables)) if installing else None
            status = status or self._try(lambda: self._installer.status(tables))
            if status is not None:
                self._note(tables, status)
        finally:
            self._due = time.monotonic() + self._pause
            self._pause = min(LONGEST_LOOK_SECONDS, 2 * self._pause)
            self._looking = False

    def _try(self, step: Callable[[], Status]) -> Status | None:
        try:
            return waiting.run_blocking(step)
        except PGEventsError as error:
            self._say(logging.ERROR, str(error))
            return None

    def _note(self, tables: list[TableName], status: Status) -> None:
        # An outdated trigger still writes a log that can be read; a disabled one does not.
        captured = frozenset(t for t in tables if status.tables.get(t) in ("current", "outdated"))
        if captured != self._captured:
            self._captured, self._pause = captured, FIRST_LOOK_SECONDS
        self.looked = True
        self._report(captured)
        wanting = [f"{table} is {status.tables.get(table)}" for table in tables if table not in captured]
        if wanting:
            self._say(logging.WARNING, f"not captured: {', '.join(wanting)}. See: flask pgevents status")

    def _say(self, level: int, text: str) -> None:
        """Log, but not the same thing every time."""
        if text != self._said:
            log.log(level, "%s", text)
        self._said = text
