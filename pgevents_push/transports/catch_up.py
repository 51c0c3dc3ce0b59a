"""CatchUp: one subscription of a WebSocket on its way from where its client was to now."""

from __future__ import annotations

from collections.abc import Callable

from pgevents_push.cursor import Cursor
from pgevents_push.errors import ConnectionLost, Crowded, CursorError
from pgevents_push.event import GapReason
from pgevents_push.hub import Hub, Recall, Subscription, View
from pgevents_push.transports import resume


class CatchUp:
    """What lies between `since` and `position` is fetched a page at a time; what is published after
    `position` waits in `mailbox`, which is this subscription's own until it has caught up."""

    def __init__(self, view: View, mailbox: Subscription, since: Cursor | None, position: Cursor) -> None:
        self.view = view
        self.mailbox = mailbox
        self.since = since
        self.position = position
        self.not_before = 0.0
        self.done = False

    def next_page(self, hub: Hub, recall: Recall, clock: Callable[[], float]) -> tuple[list[bytes], GapReason | None]:
        """Return the next frames, and why there may be a gap behind them. Sets `done` after the last ones."""
        assert self.since is not None
        try:
            frames, reached = resume.read_on(recall, self.since, self.position.snapshot, [self.view], hub)
        except CursorError as error:
            self.done = True
            return [], resume.reason_of(error)
        except (ConnectionLost, Crowded):
            self.not_before = clock() + resume.RETRY_SECONDS
            return [], None
        if reached is None:
            self.mailbox.close("schema")
            self.done = True
            return [], None
        self.since, self.done = reached, reached == self.position
        return frames, None
