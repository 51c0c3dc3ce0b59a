"""Hub: who asked for this change? Put its frame into their mailboxes."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent, Shape, Shapes, TableName
from pgevents_push.hub.audience import Audience
from pgevents_push.hub.copies import Copies
from pgevents_push.hub.history import History, between
from pgevents_push.hub.pending import NOBODY, Judge, Pending, look
from pgevents_push.hub.sight import Sight
from pgevents_push.hub.stay import Stay, stays
from pgevents_push.hub.subscription import CloseReason, Mailbox, Subscription
from pgevents_push.hub.view import View

log = logging.getLogger(__name__)

_NO_SHAPES: Shapes = {}
OnReshape = Callable[[TableName, Shape], None]


class Hub:
    """The subscriptions of one process and app, and the position up to which they have been served.

    :param history_bytes: how much of what was published is remembered.
    :param on_reshape: told what the columns of a table are, where somebody may take them for others; must not wait.
    :param judge: says what views with a persona may see; the others do not wait for it.

    Thread-safe: one lock orders `subscribe` against `publish`, so that the cursor that `subscribe` returns
    is exact: every change after it reaches the subscription, and none before it.
    """

    def __init__(
        self, history_bytes: int = 0, on_reshape: OnReshape = lambda table, shape: None, judge: Judge = NOBODY
    ) -> None:
        self._history, self.copies = History(history_bytes) if history_bytes else None, Copies(history_bytes // 4)
        self._lock = threading.RLock()  # gevent lets others run in each `notify` of a Condition over a plain lock
        self._live = threading.Condition(self._lock)
        self._cursor: str | None = None
        self.captured: frozenset[TableName] | None = None
        self._is_whole = True  # no transaction is half handed on
        self.looks = 0
        self._closed: CloseReason | None = None
        self._audiences: dict[TableName, Audience] = {}
        self._shapes: dict[TableName, Shape] = {}
        self._on_reshape = on_reshape
        self.judge = judge
        self._views: dict[Mailbox, dict[View, None]] = {}
        self._shared: dict[Mailbox, dict[View, None]] = {}  # the same of those that several guests read
        self._guests: dict[Mailbox, Mailbox] = {}
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

    def disconnect(self, subscription: Mailbox) -> None:
        """Forget a mailbox. Unknown or forgotten already: does nothing."""
        with self._lock:
            self._guests.pop(subscription, None)
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
        :param enough: but not beyond this many `looks` into the log (two more): what is ahead then is none of this log.
        """
        with self._live:
            last = self.looks + 2 if enough is None else enough
            self._live.wait_for(lambda: self._certain(views, since, last) or subscription.closed, timeout)
            cursor = self._cursor if self._certain(views, since, last) else None
            if cursor is not None and not all(map(self._fits, views)):
                subscription.close("schema")
            if cursor is None or subscription.closed or subscription not in self._views:
                return None
            for view in views:
                self._audiences.setdefault(view.table, Audience()).join(view, subscription)
                self._views[subscription][view] = None
            return cursor

    def _fits(self, view: View) -> bool:
        """A view that was made for other columns than the last change had is too old, or so new that no change has
        come since. Either way its client asks anew, and so does whoever knew the columns."""
        shape = self._shapes.get(view.table)
        if shape is None or view.mark is None or view.mark.fits(shape):
            return True
        del self._shapes[view.table]
        self._on_reshape(view.table, {})
        return False

    def _certain(self, views: Sequence[View], since: Cursor | None, enough: int) -> bool:
        if self._cursor is None:
            return False
        if self.captured is not None and not all(view.table in self.captured for view in views):
            return False
        if since is None:
            return self._is_whole
        position = Cursor.parse(self._cursor)
        if position.epoch != since.epoch:
            return True
        # Not while a large transaction is being handed on: nothing can be compared with the middle of it.
        return position.until is None and (position.is_past(since) or self.looks >= enough)

    def reach(self, cursor: Cursor, timeout: float) -> bool:
        """Wait until all that lies before a cursor was handed on; False when it was not within `timeout` seconds."""
        with self._live:
            enough = self.looks + 2
            return self._live.wait_for(lambda: self._certain((), cursor, enough), timeout)

    def capture(self, tables: frozenset[TableName] | None) -> None:
        """Take note of the tables that are captured; None, the default: take it for granted."""
        with self._live:
            self.captured = tables
            self._live.notify_all()

    def lose(self) -> None:
        """Continuity is lost: end the streams that are open, so that they come back and are told."""
        with self._live:
            self._cursor = None
            for mailbox in (*self._views, *self._guests):
                mailbox.close("lost")

    def unsubscribe(self, subscription: Subscription, views: Sequence[View]) -> None:
        """Take views away from a mailbox. Not there: does nothing."""
        with self._lock:
            for view in views:
                if self._views.get(subscription, {}).pop(view, self) is None:
                    self._leave(view, subscription)

    def _leave(self, view: View, subscription: Mailbox) -> None:
        audience = self._audiences[view.table]
        audience.leave(view, subscription)
        if not audience:
            del self._audiences[view.table]

    def reshape(self, shapes: Shapes) -> None:
        """Take note of what the columns of some tables are. Who was promised others, or judges rows by what they
        were, is sent away before the next change comes: nothing is compared with a type that is no longer true."""
        with self._lock:
            changed = {table: shape for table, shape in shapes.items() if self._shapes.get(table) != shape}
            for table, shape in changed.items():
                self._shapes[table] = shape
                self._on_reshape(table, shape)
                for subscription in self._audiences[table].outdated(shape) if table in self._audiences else ():
                    subscription.close("schema")

    def publish(self, events: Sequence[ChangeEvent], cursor: str, shapes: Shapes = _NO_SHAPES) -> None:
        """Hand events on, in order, and move to the cursor after them.

        :param shapes: what the columns of their tables are, no older than the events.
        """
        with self._live:
            self.reshape(shapes)
            pending: list[Pending] = []
            for event in events:
                if (audience := self._audiences.get(event.table_name)) is not None:
                    self._hand_on(Sight(event, self.counts), audience, pending)
            self.counts["events"] += len(events)
            if self._history is not None:
                self._history.begin(cursor) if self._cursor is None else self._history.keep(events, cursor)
            if pending:
                self.judge.put(pending)
            self._cursor = cursor
            self._is_whole = not events or events[-1].last
            self.looks += cursor.count("~") == 1  # between batches: all that could be seen was handed on
            self._live.notify_all()

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
                old.move_to(new)
                self._audiences[view.table].join(view, new)
                self._views[new][view] = None
        self.disconnect(old)

    def share(self, own: Subscription, enter: Callable[[], tuple[Mailbox, Mailbox]]) -> list[bytes] | None:
        """Let the views of a mailbox go on in one that several read; return what waits in it. A guest takes its place:
        no frame is put into it, but it is told when its stream is to end.

        None, and nothing has changed, while something in the mailbox is pending: its place is known there only.

        :param enter: returns the guest and the mailbox that it reads from now on. Nothing is published meanwhile.
        """
        with self._lock:
            if own.is_pending:
                return None
            guest, shared = enter()
            views = self._views.pop(own, {})
            for view in views:
                self._audiences[view.table].join(view, shared)
                self._leave(view, own)
            self._shared.setdefault(shared, views)
            self._guests[guest] = shared
            if own.closed:
                guest.close(own.closed)
            return own.take(0)

    def withdraw(self, shared: Mailbox, own: Subscription, unread: Iterable[bytes | Pending]) -> None:
        """Let the views of a guest, who is forgotten next, go on in a mailbox of its own, with what it has not read."""
        with self._lock:
            for view in self._shared[shared] if own in self._views else ():
                self._audiences[view.table].join(view, own)
                self._views[own][view] = None
            own.put_all(unread)

    def unshare(self, shared: Mailbox) -> None:
        """Forget a mailbox that its last guest has left. Forgotten already: does nothing."""
        with self._lock:
            for view in self._shared.pop(shared, {}):
                self._leave(view, shared)

    def _hand_on(self, sight: Sight, audience: Audience, pending: list[Pending]) -> None:
        deliveries = 0
        for group in audience.concerned(sight):
            view = group.view
            try:
                frame = sight.frame(view) if view.persona is None else look(sight, view)
            except Exception:  # a bug of ours must cost these streams a reconnect, not everybody the listener
                log.exception("event %s could not be encoded for %s", sight.event.id, view.table)
                for subscription in group.members:
                    subscription.close("failed")
                continue
            if frame is None:
                continue
            for subscription in group.members:
                if subscription.closed is None:
                    deliveries += (reached := subscription.put(frame))
                    if not reached and subscription.closed == "overflow":
                        self.counts["overflows"] += 1
            if isinstance(frame, Pending):
                pending.append(frame)
        self.counts["deliveries"] += deliveries

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
        """How many streams are open."""
        return len(self._views) + len(self._guests)

    @property
    def mailboxes(self) -> int:
        """How many mailboxes a change may have to be put into."""
        return len(self._views) + len(self._shared)

    def stays(self) -> list[Stay]:
        """How each open mailbox is doing."""
        with self._lock:
            guests = {guest: self._shared[shared] for guest, shared in self._guests.items()}
            return stays({**self._views, **guests})

    def close(self, reason: CloseReason) -> None:
        """End all streams, and those to come. Closed already: does nothing."""
        with self._live:
            self._closed = self._closed or reason
            for mailbox in (*self._views, *self._guests):
                mailbox.close(reason)
            self._live.notify_all()
