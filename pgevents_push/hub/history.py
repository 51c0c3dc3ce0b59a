"""History: the last changes in memory, so that the many short absences do not ask the database; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from pgevents_push.cursor import Cursor, Snapshot, inside_batch
from pgevents_push.event import ChangeEvent

# What an event costs besides its texts, measured with sys.getsizeof on its parts.
EVENT_BYTES = 1500


@dataclass(frozen=True)
class Piece:
    """Some changes of one batch, and the cursor after them."""

    cursor: str
    events: Sequence[ChangeEvent]
    size: int

    @cached_property
    def until(self) -> Snapshot:
        """Where the batch ends. Read when somebody asks: that takes 5 us, and most are forgotten before."""
        return Cursor.parse(self.cursor).reached


class History:
    """All changes since some snapshot, bounded in bytes; the oldest go first.

    :param max_bytes: roughly what they may take; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._start: Piece | None = None  # an end: of what was forgotten last

    def begin(self, cursor: str) -> None:
        """Begin anew: what was before this position is not known; nor, in the middle of a batch, the whole of that."""
        self._pieces.clear()
        self._size, self._start = 0, Piece(cursor, (), 0)

    def keep(self, events: Sequence[ChangeEvent], cursor: str) -> None:
        """Add what was published, and the position after it."""
        if not events:
            return
        self._pieces.append(Piece(cursor, events, sum(map(weight, events))))
        self._size += self._pieces[-1].size
        while self._size > self._max_bytes:
            dropped = self._pieces.popleft()
            self._size -= dropped.size
            self._start = Piece(dropped.cursor, (), 0)  # its whole batch: the other pieces are not asked for any more

    def after(self, since: Cursor) -> list[Piece] | None:
        """Return the pieces that may hold what came after a cursor, of whatever process; quick. None: memory does
        not reach back so far.

        It does when nothing that is visible in `_start` is invisible in the cursor: then whatever the cursor
        does not know came after `_start`, and is here.
        """
        if self._start is None or not since.snapshot.covers(self._start.until):
            return None
        return list(islice(self._pieces, _covered(since.snapshot, self._pieces), None))


def between(pieces: Sequence[Piece], since: Cursor, until: Snapshot, most: int) -> list[ChangeEvent] | None:
    """Return the first changes after a cursor that a later snapshot shows, at most `most`, in causal order, each with a
    cursor to go on from. None: the cursor's own event is not here.

    Up to the first end of a batch that shows all that the cursor does, changes are put together for this client. From
    there on it is where the listener was, and so are the cursors that the listener gave. To put together all of them
    for each page took 160 ms a page of 10,000 missed changes, in which nothing else went on in this process.

    :param pieces: what History.after() returned for the cursor.
    """
    found, later = _behind_own(pieces, since)
    if found is None:
        end = next((piece.until for piece in pieces if piece.until.covers(since.reached)), until)
        end = end if until.covers(end) else until
        own = _covered(end, pieces)
        found, later = _until(end, pieces[:own], since, most), pieces[own:]
    if found is None:
        return None
    for piece in later[: _covered(until, later)]:
        if len(found) >= most:
            break
        found += piece.events[: most - len(found)]
    return found[:most]


def _covered(snapshot: Snapshot, pieces: Sequence[Piece]) -> int:
    """How many of them, at the beginning, hold nothing but what the snapshot shows: the listener's own snapshots only
    grow. Few are asked: to ask all of them took 3 ms a page of 1,000 missed changes."""
    return bisect_left(pieces, True, key=lambda piece: not snapshot.covers(piece.until))


def _behind_own(pieces: Sequence[Piece], since: Cursor) -> tuple[list[ChangeEvent] | None, Sequence[Piece]]:
    """Return what follows in the piece where the listener gave this very cursor, and the pieces behind. None: it is
    the end of a batch, or another process's."""
    text = str(since)
    for at, piece in enumerate(pieces if since.until is not None else (), 1):
        place = next((n for n, event in enumerate(piece.events, 1) if event.cursor == text), None)
        if place is not None:
            return list(piece.events[place:]), pieces[at:]
    return None, ()


def _until(end: Snapshot, pieces: Iterable[Piece], since: Cursor, most: int) -> list[ChangeEvent] | None:
    """What reading the log from the cursor to the end of a batch would give."""
    rest = [event for piece in pieces for event in piece.events if not since.snapshot.sees(int(event.tx))]
    last_ids = _last_ids(rest)
    if since.until is None:
        return _stamped(rest, since.epoch, since.snapshot, end, last_ids, most)
    known = next((event for event in rest if int(event.id) == since.last_id), None)
    if known is None:
        return None
    done = (last_ids[known.tx], since.last_id)
    open_batch = [event for event in rest if (last_ids[event.tx], int(event.id)) > done]
    found = _stamped(open_batch, since.epoch, since.snapshot, since.until, last_ids, most)
    if len(found) < most:
        new = [event for event in rest if not since.until.sees(int(event.tx))]
        found += _stamped(new, since.epoch, since.until, end, last_ids, most - len(found))
    return found


def _last_ids(events: Iterable[ChangeEvent]) -> dict[str, int]:
    found: dict[str, int] = {}
    for event in events:
        found[event.tx] = max(int(event.id), found.get(event.tx, 0))
    return found


def _stamped(
    events: Iterable[ChangeEvent], epoch: str, start: Snapshot, until: Snapshot, last_ids: dict[str, int], most: int
) -> list[ChangeEvent]:
    """Take the batch between two snapshots, whole transactions by their greatest id, and number its beginning."""
    batch = [event for event in events if until.sees(int(event.tx))]
    batch.sort(key=lambda event: (last_ids[event.tx], int(event.id)))
    shared = inside_batch(epoch, start, until)
    stamped = [event.replace(cursor=f"{shared}{event.id}") for event in batch[:most]]
    if stamped and len(stamped) == len(batch):
        stamped[-1] = stamped[-1].replace(cursor=str(Cursor(epoch, until)))
    return stamped


def weight(event: ChangeEvent) -> int:
    """Return roughly how many bytes a change takes in memory."""
    texts = (event.row_json, event.old_json, event.pk_json, event.actor_text)
    return EVENT_BYTES + sum(len(text) for text in texts if text)
