"""Hub: who asked for this change? Put its frame into their mailboxes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from pgevents_push.event import ChangeEvent, TableName
from pgevents_push.hub.subscription import CloseReason, Subscription
from pgevents_push.hub.view import View

log = logging.getLogger(__name__)


class Hub:
    """The subscriptions of one process and app, and the position up to which they have been served.

    Thread-safe: one lock orders `subscribe` against `publish`, so that the cursor that `subscribe` returns
    is exact: every change after it reaches the subscription, and none before it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live = threading.Condition(self._lock)
        self._cursor: str | None = None
        self._captured: frozenset[TableName] | None = None
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
        greet: Callable[[str], bytes] | None = None,
    ) -> str | None:
        """Add views to a mailbox; return the cursor from which on every change will arrive.

        Waits until that is certain: the listener has a position, and the tables are captured. None: it was not
        for `timeout` seconds, or the mailbox is closed; then nothing was added.

        :param greet: makes a frame of that cursor, which goes into the mailbox behind all that is older
            and before the first change of these views.
        """
        with self._live:
            self._live.wait_for(lambda: self._certain(views) or subscription.closed, timeout)
            cursor = self._cursor if self._certain(views) else None
            if cursor is None or subscription.closed or subscription not in self._views:
                return None
            for view in views:
                self._groups.setdefault(view.table, {}).setdefault(view, {})[subscription] = None
                self._views[subscription][view] = None
            if greet is not None:
                subscription.put(greet(cursor))
            return cursor

    def _certain(self, views: Sequence[View]) -> bool:
        known = self._captured
        return self._cursor is not None and (known is None or all(view.table in known for view in views))

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
            self._cursor = cursor
            self._live.notify_all()

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
