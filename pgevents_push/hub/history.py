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
class _Piece:
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
        self._pieces: deque[_Piece] = deque()
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
        self._pieces.append(_Piece(position.reached, events, sum(map(_weight, events))))
        self._size += self._pieces[-1].size
        while self._size > self._max_bytes:
            dropped = self._pieces.popleft()
            self._size -= dropped.size
            self._start = dropped.until  # of its whole batch, whose other pieces are then not asked for any more

    def copy(self) -> History:
        """Return what is known now, to be looked through while more is kept."""
        copied = History(self._max_bytes)
        copied._pieces, copied._start = self._pieces.copy(), self._start
        return copied

    def between(self, since: Cursor, until: Snapshot, most: int) -> list[ChangeEvent] | None:
        """Return the next changes after a cursor, of whatever process, that a later snapshot shows, in the order
        and with the cursors that reading the log would give. None: memory does not reach back so far.

        It does when nothing that is visible in `_start` is invisible in the cursor: then whatever the cursor
        does not know came after `_start`, and is here.
        """
        if self._start is None or not since.snapshot.covers(self._start):
            return None
        rest = [event for piece in self._pieces for event in piece.events if not since.snapshot.sees(int(event.tx))]
        if since.until is None:
            return _stamped(_ordered(rest, until), since.epoch, since.snapshot, until, most)
        batch = _ordered(rest, since.until)
        at = next((at for at, event in enumerate(batch) if int(event.id) == since.last_id), None)
        if at is None:
            return None
        if unseen := batch[at + 1 :]:
            return _stamped(unseen, since.epoch, since.snapshot, since.until, most)
        later = [event for event in rest if not since.until.sees(int(event.tx))]
        return _stamped(_ordered(later, until), since.epoch, since.until, until, most)


def _ordered(events: Iterable[ChangeEvent], until: Snapshot) -> list[ChangeEvent]:
    """Take what a snapshot shows, whole transactions by their greatest id: as one batch of the log."""
    batch = [event for event in events if until.sees(int(event.tx))]
    last_ids: dict[str, int] = {}
    for event in batch:
        last_ids[event.tx] = max(int(event.id), last_ids.get(event.tx, 0))
    return sorted(batch, key=lambda event: (last_ids[event.tx], int(event.id)))


def _stamped(
    batch: Sequence[ChangeEvent], epoch: str, start: Snapshot, until: Snapshot, most: int
) -> list[ChangeEvent]:
    """Number the first events of the batch between two snapshots."""
    shared = inside_batch(epoch, start, until)
    stamped = [event.replace(cursor=f"{shared}{event.id}") for event in batch[:most]]
    if stamped and len(stamped) == len(batch):
        stamped[-1] = stamped[-1].replace(cursor=str(Cursor(epoch, until)))
    return stamped


def _weight(event: ChangeEvent) -> int:
    texts = (event.row_json, event.old_json, event.pk_json, event.actor_text)
    return EVENT_BYTES + sum(len(text) for text in texts if text)
