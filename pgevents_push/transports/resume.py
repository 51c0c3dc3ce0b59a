"""Resuming: is a client's cursor one that can be gone on from, and if not, why not? And what came after it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from pgevents_push import waiting
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import BacklogError, CursorError
from pgevents_push.event import ChangeEvent, GapReason
from pgevents_push.hub import Copy, Hub, Page, Pending, Recall, Sight, View, look

log = logging.getLogger(__name__)

# The cursor of all that comes before a snapshot is complete. Nothing can be resumed from it: who breaks off in the
# middle needs the rows again.
UNFINISHED = "snapshot"

RETRY_SECONDS = 0.5  # how often the log is asked again while the database is away, or others are first
# So many changes are encoded before others get their turn: 1 ms. All of a page would be 27 ms in which nothing live
# goes on in this process, for each client that comes back.
AT_ONCE = 50
PASSING = 0.02  # of that: a change that is no concern of this client, or was encoded for another one


def parse_cursor(text: str | None) -> Cursor | None:
    """Return the cursor that a client named, None when it named none or nonsense."""
    try:
        return Cursor.parse(text) if text else None
    except CursorError:
        return None


def gap_reason(text: str | None, since: Cursor | None, position: Cursor, views: Iterable[View]) -> GapReason | None:
    """Tell why a client that named `text` cannot go on from there; None when it can, or named nothing.

    :param views: what it wants to see: not with today's types of columns that were others there.
    """
    if not text:
        return None
    if since is None:
        return "cursor"
    if since.epoch != position.epoch:
        return "epoch"
    if not position.is_past(since):
        return "cursor"
    # Positions reach no further than the last change. Where there was none since, the columns are nobody's concern.
    nothing_missed = since.until is None and since.snapshot.covers(position.snapshot)
    marks = [view.mark for view in views if view.mark is not None]
    return None if nothing_missed or all(mark.was_true_at(since.snapshot) for mark in marks) else "schema"


def reason_of(error: CursorError) -> GapReason:
    """Tell why the missed changes could not be read."""
    return "overflow" if isinstance(error, BacklogError) else "retention"


def fits(page: Page, views: Iterable[View]) -> bool:
    """Whether the columns are still those that the views were made for; nothing of the page may be shown otherwise."""
    return all(v.mark is None or v.table not in page.shapes or v.mark.fits(page.shapes[v.table]) for v in views)


def read_on(
    recall: Recall, since: Cursor, until: Snapshot, views: Sequence[View], hub: Hub
) -> tuple[list[bytes], Cursor | None]:
    """Return what views show of the next changes, the same as if they had been there, and the cursor behind these.
    None: the columns are others than the views were made for.

    :raises CursorError: the log does not reach back.
    :raises ConnectionLost: it, or what a persona may see, cannot be read now.
    :raises Crowded: it is not this client's turn.
    """
    with recall(since, until) as page:
        if not fits(page, views):
            return [], None
        found = _look_at(page, views, hub)
    if pending := [frame for frame in found if isinstance(frame, Pending)]:
        hub.judge.answer(pending)
    shown = (frame.frame if isinstance(frame, Pending) else frame for frame in found)
    return [frame for frame in shown if frame is not None], page.cursor


def _look_at(page: Page, views: Iterable[View], hub: Hub) -> list[bytes | Pending]:
    by_table: dict[tuple[str, str], list[tuple[View, dict[int, Copy]]]] = {}
    for view in views:
        by_table.setdefault(view.table, []).append((view, hub.copies.of(view)))
    found: list[bytes | Pending | None] = []
    effort = 0.0
    for event in page.events:
        for view, copies in by_table.get((event.schema, event.table), ()):
            if (copy := copies.get(id(event))) is not None:
                found.append(copy[1])
            else:
                found.append(_made(event, view, hub, page.is_shared))
                effort += 1.0
        effort += PASSING
        if effort >= AT_ONCE:
            effort = 0.0
            waiting.sleep(0)
    return [frame for frame in found if frame is not None]


def _made(event: ChangeEvent, view: View, hub: Hub, is_shared: bool) -> bytes | Pending | None:
    sight = Sight(event, hub.counts)
    try:
        frame = look(sight, view)
    except Exception:  # a bug of ours: else the client comes back to the same change for ever
        log.exception("event %s could not be encoded for %s", event.id, view.table)
        return sight.gap(view, "failed")
    if is_shared and not isinstance(frame, Pending):
        hub.copies.keep(view, event, frame)
    return frame
