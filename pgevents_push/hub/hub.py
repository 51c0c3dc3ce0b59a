"""Hub: who asked for this change? Put its frame into their mailboxes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent, TableName
from pgevents_push.hub.history import History, between
from pgevents_push.hub.subscription import CloseReason, Subscription
from pgevents_push.hub.view import View

log = logging.getLogger(__name__)


class Hub:
    """The subscriptions of one process and app, and the position up to which they have been served.

    :param history_bytes: how much of what was published is remembered.

    Thread-safe: one lock orders `subscribe` against `publish`, so that the cursor that `subscribe` returns
    is exact: every change after it reaches the subscription, and none before it.
    """

    def __init__(self, history_bytes: int = 0) -> None:
        self._history = History(history_bytes) if history_bytes else None
        self._lock = threading.Lock()
        self._live = threading.Condition(self._lock)
        self._cursor: str | None = None
        self._captured: frozenset[TableName] | None = None
        self.looks = 0
        self._closed: CloseReason | None = None
        self._groups: dict[TableName, dict[View, dict[Subscription, None]]] = {}
        self._views: dict[Subscription, dict[View, None]] = {}
        self.counts: Counter[str] = Counter()

    def connect(self, max_bytes: int) -> Subscription:
        """Open a mailbox. After `close` of the hub it comes closed already."""
        subscription = Subscription(max_bytes)
        with self._lock:
            if self._closed:
                subscription.close(self._closed)
            else:
                self._views[subscription] = {}
        return subscription

    def disconnect(self, subscription: Subscription) -> None:
        """Forget a mailbox. Unknown or forgotten already: does nothing."""
        with self._lock:
            for view in self._views.pop(subscription, {}):
                self._leave(view, subscription)

    def subscribe(
        self,
        subscription: Subscription,
        views: Sequence[View],
        timeout: float,
        since: Cursor | None = None,
        enough: int | None = None,
    ) -> str | None:
        """Add views to a mailbox; return the cursor from which on every change will arrive.

        Waits until that is certain: the listener has a position, and the tables are captured. None: it was not
        for `timeout` seconds, or the mailbox is closed; then nothing was added.

        :param since: wait also until we are past this cursor, which may come from a process that was quicker.
        :param enough: but not beyond this many `looks` into the log, by default two more: a cursor that is then
            still ahead is none of this log.
        """
        with self._live:
            last = self.looks + 2 if enough is None else enough
            self._live.wait_for(lambda: self._certain(views, since, last) or subscription.closed, timeout)
            cursor = self._cursor if self._certain(views, since, last) else None
            if cursor is None or subscription.closed or subscription not in self._views:
                return None
            for view in views:
                self._groups.setdefault(view.table, {}).setdefault(view, {})[subscription] = None
                self._views[subscription][view] = None
            return cursor

    def _certain(self, views: Sequence[View], since: Cursor | None, enough: int) -> bool:
        if self._cursor is None:
            return False
        if self._captured is not None and not all(view.table in self._captured for view in views):
            return False
        if since is None:
            return True
        position = Cursor.parse(self._cursor)
        if position.epoch != since.epoch:
            return True
        # Not while a large transaction is being handed on: nothing can be compared with the middle of it.
        return position.until is None and (position.is_past(since) or self.looks >= enough)

    def capture(self, tables: frozenset[TableName] | None) -> None:
        """Take note of the tables that are captured; None, the default: take it for granted."""
        with self._live:
            self._captured = tables
            self._live.notify_all()

    def lose(self) -> None:
        """Continuity is lost: end the streams that are open, so that they come back and are told."""
        with self._live:
            self._cursor = None
            for subscription in self._views:
                subscription.close("lost")

    def unsubscribe(self, subscription: Subscription, views: Sequence[View]) -> None:
        """Take views away from a mailbox. Not there: does nothing."""
        with self._lock:
            for view in views:
                if self._views.get(subscription, {}).pop(view, self) is None:
                    self._leave(view, subscription)

    def _leave(self, view: View, subscription: Subscription) -> None:
        group = self._groups[view.table]
        group[view].pop(subscription)
        if not group[view]:
            del group[view]
        if not group:
            del self._groups[view.table]

    def publish(self, events: Sequence[ChangeEvent], cursor: str) -> None:
        """Hand events on, in order, and move to the cursor after them."""
        with self._live:
            for event in events:
                for view, members in self._groups.get(event.table_name, {}).items():
                    self._deliver(event, view, members)
            self.counts["events"] += len(events)
            if self._history is not None:
                self._keep(self._history, events, Cursor.parse(cursor))
            self._cursor = cursor
            self.looks += cursor.count("~") == 1  # between batches: all that could be seen was handed on
            self._live.notify_all()

    def _keep(self, history: History, events: Sequence[ChangeEvent], position: Cursor) -> None:
        if self._cursor is None:
            history.begin(position)
        else:
            history.keep(events, position)

    def remember(self, since: Cursor, until: Snapshot, most: int) -> list[ChangeEvent] | None:
        """Return the first changes between a cursor and a later snapshot, at most `most`; None when memory does not
        reach back."""
        with self._lock:
            pieces = self._history.after(since) if self._history is not None else None
        # Behind the lock: a thousand clients that come back at once would keep `publish` waiting for seconds.
        return None if pieces is None else between(pieces, since, until, most)

    def hand_over(self, view: View, old: Subscription, new: Subscription) -> None:
        """Let a view go on in another mailbox, with what waits in the old one, which is forgotten."""
        with self._lock:
            if old.closed:
                new.close(old.closed)
            if new in self._views and view in self._views.get(old, ()):
                new.put_all(old.take(0))
                self._groups[view.table][view][new] = None
                self._views[new][view] = None
        self.disconnect(old)

    def _deliver(self, event: ChangeEvent, view: View, members: dict[Subscription, None]) -> None:
        try:
            frame = view.frame(event)
        except Exception:  # a bug of ours must cost these streams a reconnect, not everybody the listener
            log.exception("event %s could not be encoded for %s", event.id, view.table)
            for subscription in members:
                subscription.close("failed")
            return
        if frame is None:
            return
        for subscription in members:
            if subscription.closed is None and not subscription.put(frame) and subscription.closed == "overflow":
                self.counts["overflows"] += 1
        self.counts["deliveries"] += len(members)

    def position(self, subscription: Subscription) -> str | None:
        """The cursor that a mailbox has reached when it is empty; None while something waits in it."""
        with self._lock:
            return None if subscription.queued_bytes else self._cursor

    @property
    def cursor(self) -> str | None:
        """The position up to which events were published; None before the listener has one."""
        return self._cursor

    @property
    def connections(self) -> int:
        """How many mailboxes are open."""
        return len(self._views)

    def close(self, reason: CloseReason) -> None:
        """End all streams, and those to come. Closed already: does nothing."""
        with self._live:
            self._closed = self._closed or reason
            for subscription in self._views:
                subscription.close(reason)
            self._live.notify_all()
