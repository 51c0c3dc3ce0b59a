"""The snapshot cursor: a position in the stream of committed changes. Parse, format, compare; pure.

A position is a `pg_snapshot` of PostgreSQL: everything visible in it has been delivered, everything else has
not. No sequence number can say that, because ids are not handed out in commit order. Inside a batch (what
became visible between two snapshots) a position also needs the second snapshot and the last id delivered.

Text form, safe in headers and URLs: `epoch~snapshot` or `epoch~snapshot~snapshot~id`, where a snapshot is
`xmin:xmax:xip.xip…`, the last ones as the distances between them (pgevents.js reads it too): with 500 transactions open
a cursor takes 2 to 4 kB, and 8 fit into a header. The epoch names the cluster, its timeline, the database and the
installation, so that a cursor of another or a restored database is recognised.

A position survives a crash of PostgreSQL, which hands out again the xids whose WAL it had not written yet: those of
transactions that were rolled back. So no position reaches further than the greatest xid of a committed change
(`Snapshot.up_to`): its commit was written, and with it the knowledge of all xids below.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from pgevents_push.errors import CursorError

_EPOCH = re.compile(r"[0-9a-f]{4,32}")
_POSTGRES = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):((?:[0-9]{1,20}(?:,[0-9]{1,20})*)?)")
_WIRE = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):((?:[0-9]{1,20}(?:\.[0-9]{1,20})*)?)")
_MAX_XID, _MAX_ID = 2**64 - 1, 2**63 - 1
# The lower 32 bits of an xid are never 0, nor those of a snapshot's bounds: PostgreSQL refuses to read such a text.
_ROUND = 2**32
# gunicorn and nginx take 8 kB for a header. Who would send back more gets no answer but 400, for ever.
LONGEST = 7500


@dataclass(frozen=True)
class Snapshot:
    """What a `pg_snapshot` says: which transactions had ended when it was taken.

    :param xmin: every transaction below it had ended.
    :param xmax: no transaction from here on had ended.
    :param xip: those in between that were still running, ascending.
    """

    xmin: int
    xmax: int
    xip: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """Read PostgreSQL's own text (`10:20:10,14`).

        :raises CursorError: the text is not a snapshot.
        """
        match = _matched(_POSTGRES, text)
        return cls._checked(match, [int(xid) for xid in match[3].split(",")] if match[3] else [])

    @classmethod
    def from_cursor(cls, text: str) -> Snapshot:
        """Read the form that it has in a cursor (`10:20:0.4`).

        :raises CursorError: the text is not a snapshot.
        """
        match = _matched(_WIRE, text)
        distances = map(int, match[3].split(".")) if match[3] else ()
        return cls._checked(match, list(accumulate(distances, initial=int(match[1])))[1:])

    @classmethod
    def _checked(cls, match: re.Match[str], running: list[int]) -> Snapshot:
        snapshot = cls(int(match[1]), int(match[2]), tuple(running))
        snapshot._check()
        return snapshot

    def in_cursor(self) -> str:
        """Return the form that it has in a cursor."""
        distances = map(operator.sub, self.xip, (self.xmin, *self.xip))
        return f"{self.xmin}:{self.xmax}:{'.'.join(map(str, distances))}"

    def _check(self) -> None:
        # What PostgreSQL itself would refuse; it must never see a cursor that somebody tampered with.
        later = (*self.xip, self.xmax)
        rising = all(map(operator.lt, later, later[1:]))
        possible = all(xid % _ROUND for xid in (self.xmin, *later))
        if not rising or not possible or self.xmin > later[0] or self.xmax > _MAX_XID:
            raise CursorError(f"{str(self)[:80]} is not a possible snapshot")

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, self.xip))}"

    @cached_property
    def _running(self) -> frozenset[int]:
        return frozenset(self.xip)  # of a forged cursor these may be thousands, asked about for each event

    def up_to(self, xid: int) -> Snapshot:
        """Return what it says of the transactions up to this one; nothing is claimed of later ones."""
        xmax = min(self.xmax, xid + 1 if (xid + 1) % _ROUND else xid + 2)
        running = tuple(x for x in self.xip if x < xmax)
        return Snapshot(running[0] if running else xmax, xmax, running)

    def sees(self, xid: int) -> bool:
        """Whether the transaction, once committed, is visible in this snapshot."""
        return xid < self.xmin or (xid < self.xmax and xid not in self._running)

    def covers(self, other: Snapshot) -> bool:
        """Whether everything that is visible in the other one is visible in this one."""
        return self.xmax >= other.xmax and not any(other.sees(xid) for xid in self.xip)


@dataclass(frozen=True)
class Cursor:
    """Everything visible in `snapshot` was delivered; with `until`, so were the first events of the batch
    between the two snapshots, up to and including the one with `last_id`."""

    epoch: str
    snapshot: Snapshot
    until: Snapshot | None = None
    last_id: int = 0

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read the text form.

        :raises CursorError: the text is not a cursor.
        """
        parts = text.split("~")
        if len(parts) not in (2, 4) or not _EPOCH.fullmatch(parts[0]):
            raise CursorError(f"{text[:80]!r} is not a cursor")
        if len(parts) == 2:
            return cls(parts[0], Snapshot.from_cursor(parts[1]))
        if not re.fullmatch(r"[0-9]{1,19}", parts[3]):
            raise CursorError(f"{text[:80]!r} is not a cursor")
        start, until, last_id = Snapshot.from_cursor(parts[1]), Snapshot.from_cursor(parts[2]), int(parts[3])
        if last_id > _MAX_ID or until.xmin < start.xmin or until.xmax < start.xmax:
            raise CursorError(f"{text[:80]!r} is not a possible cursor")
        return cls(parts[0], start, until, last_id)

    @property
    def reached(self) -> Snapshot:
        """A snapshot that shows all that was delivered, and perhaps more."""
        return self.until or self.snapshot

    def is_past(self, other: Cursor) -> bool:
        """Whether all that was delivered at the other cursor was delivered at this one, which is between batches."""
        return self.until is None and self.snapshot.covers(other.reached)

    def __str__(self) -> str:
        if self.until is not None:
            return f"{inside_batch(self.epoch, self.snapshot, self.until)}{self.last_id}"
        return f"{self.epoch}~{self.snapshot.in_cursor()}"


def inside_batch(epoch: str, start: Snapshot, until: Snapshot) -> str:
    """Return the part that all cursors inside one batch share; append an event's id to it."""
    return f"{epoch}~{start.in_cursor()}~{until.in_cursor()}~"


def for_client(text: str) -> str:
    """Return what a client is told of a position: itself; or, of one that is too long to be sent back, a text that is
    none, so that who comes back with it is told of a gap. It takes about a thousand transactions that write at once.
    """
    return text if len(text) <= LONGEST else f"{text.partition('~')[0]}~long"


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise CursorError(f"{text[:80]!r} is not a snapshot")
    return match
