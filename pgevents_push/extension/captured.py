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

# How often a table that is missing is looked for: at first soon (a migration is running), then seldom. As seldom
# when none is missing: a migration may drop a table and make it again, or swap two, and the triggers are gone.
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 1.0, 15.0

# An outdated trigger still writes a log that can be read; a disabled one does not.
_CAPTURED = ("current", "outdated")

Report = Callable[["frozenset[TableName] | None"], None]


class Captured:
    """Sees to it, in the background of a running listener, that tables are captured. One busy table must not
    keep the others from being heard, so installing is no part of the listener's loop.

    :param tables: the tables that are to be captured at this moment.
    :param report: told which tables are; None when nobody looks (PGEVENTS_INSTALL="off").
    :param on_lost: told when a table that was captured no longer is: changes may have been missed.

    `looked` is True once the first look was done: what could be installed is.
    """

    def __init__(
        self,
        installer: Installer,
        config: Config,
        tables: Callable[[], list[TableName]],
        report: Report,
        on_lost: Callable[[], None],
    ) -> None:
        self._installer = installer
        self._mode = config.install
        self._tables = tables
        self._report = report
        self._on_lost = on_lost
        self._captured: frozenset[TableName] = frozenset()
        self._said: dict[int, str] = {}
        self._due = 0.0
        self._pause = FIRST_LOOK_SECONDS
        self._looking = self._stopped = False
        self._task: waiting.Task | None = None
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
        Cheap when it is not time yet; the listener calls it each time round."""
        if self._mode == "off" or self._looking or self._stopped or time.monotonic() < self._due:
            return
        self._looking = True
        self._task = waiting.spawn(self._look, name="pgevents-install")

    def stop(self, timeout: float = 1.0) -> None:
        """Look no more, and wait for a look that is under way. None is: returns at once.

        :param timeout: seconds; a look that takes longer ends by itself.
        """
        self._stopped = True
        if self._task is not None:
            self._task.join(timeout)

    def declared(self) -> None:
        """A table was declared: look for it at once."""
        self._due = min(self._due, time.monotonic())

    def _look(self) -> None:
        try:
            tables = self._tables()
            found = self._try(lambda: self._installer.status(tables))
            if found is not None:
                self._compare(found)
                wanting = self._mode == "auto" and not found.complete
                installed = self._try(lambda: self._installer.install(tables)) if wanting else None
                # Installing may have failed for one table only.
                again = installed is None and wanting
                latest = self._try(lambda: self._installer.status(tables)) if again else installed
                self._note(tables, latest or found)
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

    def _compare(self, found: Status) -> None:
        """Tell when a table has lost its trigger since the last look. That it is captured again at once is no
        comfort to who has missed what happened meanwhile."""
        gone = [name for name in self._captured if found.tables.get(name) not in _CAPTURED]
        if gone:
            self._captured -= frozenset(gone)
            listed = ", ".join(f"{name} is {found.tables.get(name)}" for name in gone)
            log.error("captured no longer, changes may have been missed: %s", listed)
            self._report(self._captured)  # before streams come back: they wait until it is captured again
            self._on_lost()

    def _note(self, tables: list[TableName], status: Status) -> None:
        captured = frozenset(t for t in tables if status.tables.get(t) in _CAPTURED)
        if captured != self._captured:
            self._captured, self._pause = captured, FIRST_LOOK_SECONDS
        self.looked = True
        self._report(captured)
        wanting = [_wanting(table, status) for table in tables if table not in captured]
        if wanting:
            self._say(logging.WARNING, f"not captured: {', '.join(wanting)}. See: flask pgevents status")

    def _say(self, level: int, text: str) -> None:
        """Log, but not the same thing every time: an error and the warning that follows it take turns."""
        if text != self._said.get(level):
            log.log(level, "%s", text)
        self._said[level] = text


def _wanting(table: TableName, status: Status) -> str:
    word = status.tables.get(table)
    cure = " (no such table: run the migration that makes it, or correct its name)" if word == "absent" else ""
    return f"{table} is {word}{cure}"
