"""Pulse: the listener's health as one word, proved by what it last did."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Literal

log = logging.getLogger(__name__)

# starting: no position yet; listening: the bell hangs and the log is read; deaf: the log is read, but the server
# forgot our LISTEN (a transaction pooler does); reconnecting; stopped.
Status = Literal["starting", "listening", "deaf", "reconnecting", "stopped"]

# A wait that ends so much too late: the process did not run, or its hub did not. Two busy cores cost 0.1 s.
STANDSTILL_SECONDS = 1.0
# The same trouble is told so often, another reason why there is no connection not more often than that.
AGAIN_SECONDS = 60.0
CAUSE_SECONDS = 10.0

# What PostgreSQL and libpq put between quotes, in their languages: roles, databases, hosts, paths.
_NAMES = re.compile("\"[^\"]*\"|'[^']*'|„[^“]*“|»[^«]*«|«[^»]*»|“[^”]*”")
# "connection to server at …, port … failed: FATAL:  …"
_PREAMBLE = re.compile(r".* failed: |^[A-Z]+: +")


def without_names(error: str) -> str:
    """Return what went wrong, and of whom and where nothing: outsiders may read it."""
    text = _PREAMBLE.sub("", error.split("\n")[0])
    return _NAMES.sub("…", _PREAMBLE.sub("", text))


class Pulse:
    """The current word, why, and who wants to know of a change. `reconnects`: how often the connection was lost."""

    def __init__(
        self, on_change: Callable[[Status, str | None], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.status: Status = "starting"
        self.error: str | None = None
        self.reconnects = 0
        self._clock = clock
        self._read_at: float | None = None
        self._stood_at: float | None = None
        self._told: str | None = None
        self._told_at = 0.0
        self._on_change = on_change

    def beat(self, status: Status, error: str | None = None) -> None:
        """Set the word. Tells only a change, and logs that and another reason for it: a server that is restarted with
        another password is two lines, and an hour of reconnecting no more."""
        changed, self.status, self.error = status != self.status, status, error
        if changed:
            self.reconnects += status == "reconnecting"
            self._log(status, error)
            self._on_change(status, error)
        elif error and error != self._told and self._clock() - self._told_at > CAUSE_SECONDS:
            self._log(status, error)

    def _log(self, status: Status, error: str | None) -> None:
        self._told, self._told_at = error, self._clock()
        level = logging.WARNING if status in ("deaf", "reconnecting") else logging.INFO
        log.log(level, "listener is %s%s", status, f": {error}" if error else "", extra={"status": status})

    @property
    def cause(self) -> str | None:
        """Why it is not well, for outsiders; None while it is."""
        return without_names(self.error) if self.error else None

    def note_read(self) -> None:
        """The log was read to its end."""
        self._read_at = self._clock()

    def note_overslept(self, seconds: float) -> None:
        """A wait took so much longer than it should. Tells, now and then, that something holds up the whole process:
        streams and handlers stand still as well."""
        now = self._clock()
        if seconds > STANDSTILL_SECONDS and (self._stood_at is None or now - self._stood_at > AGAIN_SECONDS):
            self._stood_at = now
            log.warning(
                "this process stood still for %.1f s, and all streams with it: under gevent, something blocked that was"
                " not patched; else the machine is too busy",
                seconds,
            )

    @property
    def seconds_since_read(self) -> float | None:
        """How long ago that was; None when it never was."""
        return None if self._read_at is None else self._clock() - self._read_at
