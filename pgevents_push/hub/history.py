"""History: the last changes in memory, so that the many short absences do not ask the database; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pgevents_push.cursor import Cursor, Snapshot, inside_batch
from pgevents_push.event import ChangeEvent

# What an event costs besides its texts, measured with sys.getsizeof on its parts.
EVENT_BYTES = 1500


@dataclass(frozen=True)
class Piece:
    """Some changes of one batch; `until` is where that batch ends."""

    until: Snapshot
    events: Sequence[ChangeEvent]
    size: int


class History:
    """All changes since some snapshot, bounded in bytes; the oldest go first.

    :param max_bytes: roughly what they may take; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: deque[Piece] = deque()
        self._size = 0
        self._start: Snapshot | None = None

    def begin(self, position: Cursor) -> None:
        """Begin anew: what was before this position is not known."""
        self._pieces.clear()
        self._size, self._start = 0, position.snapshot

    def keep(self, events: Sequence[ChangeEvent], position: Cursor) -> None:
        """Add what was published, and the position after it."""
        if not events:
            return
        self._pieces.append(Piece(position.reached, events, sum(map(_weight, events))))
        self._size += self._pieces[-1].size
        while self._size > self._max_bytes:
            dropped = self._pieces.popleft()
            self._size -= dropped.size
            self._start = dropped.until  # of its whole batch, whose other pieces are then not asked for any more

    def after(self, since: Cursor) -> list[Piece] | None:
        """Return the pieces that may hold what came after a cursor, of whatever process; quick. None: memory does
        not reach back so far.

        It does when nothing that is visible in `_start` is invisible in the cursor: then whatever the cursor
        does not know came after `_start`, and is here.
        """
        if self._start is None or not since.snapshot.covers(self._start):
            return None
        found: deque[Piece] = deque()
        for piece in reversed(self._pieces):
            if since.snapshot.covers(piece.until):
                break  # so it does those before: the listener's snapshots only grow
            found.appendleft(piece)
        return list(found)


def between(pieces: Iterable[Piece], since: Cursor, until: Snapshot, most: int) -> list[ChangeEvent] | None:
    """Return the first changes after a cursor that a later snapshot shows, at most `most`, in the order and with
    the cursors that reading the log would give. None: the cursor's own event is not here.

    :param pieces: what History.after() returned for the cursor.
    """
    rest = [event for piece in pieces for event in piece.events if not since.snapshot.sees(int(event.tx))]
    last_ids = _last_ids(rest)
    if since.until is None:
        return _stamped(rest, since.epoch, since.snapshot, until, last_ids, most)
    known = next((event for event in rest if int(event.id) == since.last_id), None)
    if known is None:
        return None
    done = (last_ids[known.tx], since.last_id)
    open_batch = [event for event in rest if (last_ids[event.tx], int(event.id)) > done]
    found = _stamped(open_batch, since.epoch, since.snapshot, since.until, last_ids, most)
    if len(found) < most:
        new = [event for event in rest if not since.until.sees(int(event.tx))]
        found += _stamped(new, since.epoch, since.until, until, last_ids, most - len(found))
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


def _weight(event: ChangeEvent) -> int:
    texts = (event.row_json, event.old_json, event.pk_json, event.actor_text)
    return EVENT_BYTES + sum(len(text) for text in texts if text)
