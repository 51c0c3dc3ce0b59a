"""Arrivals: the subscriptions of one WebSocket that are on their way to live changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.cursor import Cursor
from pgevents_push.errors import Altered, ConnectionLost, PGEventsError
from pgevents_push.event import Gap, GapReason
from pgevents_push.hub import Hub, Recall, Shipment, Subscription, View
from pgevents_push.transports import resume, uncaptured
from pgevents_push.transports.catch_up import CatchUp
from pgevents_push.transports.closing import as_number
from pgevents_push.transports.showing import Source, close_reason, refusal
from pgevents_push.transports.ws_protocol import control, encode_gap, encode_rows, error

PENDING_SECONDS = 0.02  # how often it is looked whether PostgreSQL has judged a row
RETRY_SECONDS = 0.2  # how often a subscription is tried again while the listener has no position yet


@dataclass(frozen=True)
class Arrival:
    """A subscription that is not live yet.

    :param named: where its client was; after the rows, the moment that they are of.
    :param enough: how many looks into the log to wait for that at most.
    :param patience: with its table.
    :param source: of the rows that it wants to see first, unless it can go on from where it was.
    :param shown: it has seen them.
    :param not_before: when it may try again.
    """

    view: View
    named: str | None
    enough: int
    patience: uncaptured.Patience
    source: Source | None = None
    shown: bool = False
    not_before: float = 0.0

    @property
    def since(self) -> Cursor | None:
        return resume.parse_cursor(self.named)

    @property
    def wants_rows(self) -> bool:
        return self.source is not None and self.named is None


@dataclass
class _Showing:
    """Who is being shown the rows, and whether some of them were sent."""

    arrival: Arrival
    shipment: Shipment
    begun: bool = False


class Arrivals:
    """They wait for the hub, are shown the rows, are told what they missed, and leave for the common mailbox.

    One at a time is shown its rows: so a connection has one place in the line for them, and one queue full of them.

    :param send: writes frames, behind what is queued.
    """

    def __init__(
        self,
        hub: Hub,
        recall: Recall,
        mailbox: Subscription,
        settings: Config,
        send: Callable[[list[bytes]], None],
        clock: Callable[[], float],
    ) -> None:
        self._hub, self._recall, self._mailbox, self._settings = hub, recall, mailbox, settings
        self._send, self._clock = send, clock
        self._waiting: dict[str, Arrival] = {}
        self._showing: dict[str, _Showing] = {}
        self._catching_up: dict[str, tuple[Arrival, CatchUp]] = {}

    def add(self, ref: str, view: View, named: str | None, source: Source | None) -> None:
        if source is not None and named == resume.UNFINISHED:
            named = None
        patience = uncaptured.Patience(self._hub, [view], self._clock)
        self._waiting[ref] = Arrival(view, named, self._hub.looks + 2, patience, source)

    def __iter__(self) -> Iterator[str]:
        return iter([*self._waiting, *self._showing, *self._catching_up])

    @property
    def behind(self) -> bool:
        """Whether one of them has yet to get what lies before the position of the hub."""
        late = (arrival.named or arrival.source for arrival in self._waiting.values())
        return bool(self._catching_up or self._showing or any(late))

    def patience(self) -> list[float]:
        """For how many seconds nothing needs to be done here, by each of them that cannot be woken."""
        pauses = [catch_up.not_before - self._clock() for _, catch_up in self._catching_up.values()]
        return pauses + ([RETRY_SECONDS] if self._waiting else [])

    def remove(self, ref: str) -> bool:
        """Forget one; False when there is none with this ref."""
        if ref in self._showing:
            self._showing.pop(ref).shipment.close()
        elif ref in self._catching_up:
            self._hub.disconnect(self._catching_up.pop(ref)[1].mailbox)
        elif self._waiting.pop(ref, None) is None:
            return False
        return True

    def close(self) -> None:
        """Forget all of them."""
        for ref in self:
            self.remove(ref)

    def go_on(self) -> dict[str, View]:
        """Take each a step further; return those that are live now. Each has sent its `ready`."""
        live: dict[str, View] = {}
        if self._mailbox.closed:  # perhaps revoked: no more rows
            return live
        self._enrol(live)
        self._show()
        self._catch_up(live)
        return live

    def _enrol(self, live: dict[str, View]) -> None:
        """Give those that wait to the hub. It takes none before the listener has a position, nor one of a
        table that is not captured yet; that one waits, the others do not."""
        for ref, new in list(self._waiting.items()):
            if new.not_before > self._clock() or (new.wants_rows and self._showing):
                continue
            # In a mailbox of its own at first: what it missed must come before what comes now.
            own = self._hub.connect(self._settings.max_queue_bytes)
            cursor = self._hub.subscribe(own, [new.view], 0, since=new.since, enough=new.enough)
            if own.closed:
                self._mailbox.close(own.closed)
            if cursor is None:
                self._hub.disconnect(own)
                self._lose_patience(ref, new)
                continue
            del self._waiting[ref]
            self._greet(ref, new, CatchUp(new.view, own, new.since, Cursor.parse(cursor)), live)

    def _lose_patience(self, ref: str, new: Arrival) -> None:
        """Refuse what has waited for its table in vain."""
        if (table := new.patience.exhausted_by()) is not None:
            del self._waiting[ref]
            self._mailbox.put(error(ref, uncaptured.refusal(table)))

    def _greet(self, ref: str, new: Arrival, catch_up: CatchUp, live: dict[str, View]) -> None:
        reason = resume.gap_reason(new.named, catch_up.since, catch_up.position, [new.view])
        if catch_up.since is not None and reason is None:
            self._mailbox.put(self._ready(ref, new.view, catch_up.since, resumed=not new.shown))
            self._catching_up[ref] = (new, catch_up)
        elif new.source is None:
            self._mailbox.put(self._ready(ref, new.view, catch_up.position, resumed=False))
            self._join(ref, catch_up, reason, live)
        else:
            self._begin_to_show(ref, new, new.source, catch_up, reason)

    def _ready(self, ref: str, view: View, cursor: Cursor, *, resumed: bool) -> bytes:
        heartbeat = as_number(self._settings.heartbeat_seconds)
        tables = [str(view.table)]
        return control("ready", ref=ref, cursor=str(cursor), resumed=resumed, tables=tables, heartbeat=heartbeat)

    def _join(self, ref: str, catch_up: CatchUp, reason: GapReason | None, live: dict[str, View]) -> None:
        """The subscription is up to date: it goes on in the common mailbox."""
        self._tell_gap(ref, reason, str(catch_up.position))
        self._hub.hand_over(catch_up.view, catch_up.mailbox, self._mailbox)
        live[ref] = catch_up.view

    def _tell_gap(self, ref: str, reason: GapReason | None, cursor: str) -> None:
        if reason is not None:
            self._mailbox.put(encode_gap(Gap(reason, cursor), ref))

    def _begin_to_show(
        self, ref: str, new: Arrival, source: Source, catch_up: CatchUp, reason: GapReason | None
    ) -> None:
        """The rows are read only now that the table is captured, so that no change after them is lost."""
        self._tell_gap(ref, reason, resume.UNFINISHED)
        self._hub.disconnect(catch_up.mailbox)
        new = replace(new, named=None)
        if self._showing:
            self._waiting[ref] = new
            return
        shipment = source.read([new.view], lambda chunk: encode_rows(chunk, ref), self._mailbox)
        self._showing[ref] = _Showing(new, shipment)

    def _show(self) -> None:
        """Send a part of the rows to each that is being shown them."""
        for ref, showing in list(self._showing.items()):
            try:
                frame = showing.shipment.take()
            except PGEventsError as failure:
                self._fail(ref, showing, failure)
                continue
            if frame is not None:
                showing.begun = True
                self._send_some([frame])
            elif showing.shipment.done:
                self._wait_again(ref, named=str(showing.shipment.cursor), enough=self._hub.looks + 2, shown=True)

    def _fail(self, ref: str, showing: _Showing, failure: PGEventsError) -> None:
        """Try again; but not when the client has a part of a moment that is over."""
        if isinstance(failure, ConnectionLost) and not showing.begun:
            self._wait_again(ref, not_before=self._clock() + resume.RETRY_SECONDS)
        elif isinstance(failure, Altered):
            self._mailbox.close(close_reason(failure))  # as it is for those that are live
        else:
            del self._showing[ref]
            self._mailbox.put(error(ref, refusal(failure)))

    def _wait_again(self, ref: str, **changes: Any) -> None:
        self._waiting[ref] = replace(self._showing.pop(ref).arrival, **changes)
        self._mailbox.poke()

    def _catch_up(self, live: dict[str, View]) -> None:
        """Send one page to each subscription that is behind; the others get their changes in between."""
        for ref, (new, catch_up) in list(self._catching_up.items()):
            if catch_up.not_before > self._clock():
                continue
            self._send_some([])  # what is queued is before it, its own `ready` first of all
            if self._mailbox.queued_bytes:  # it is not known yet what the first of these is
                catch_up.not_before = self._clock() + PENDING_SECONDS
                continue
            frames, reason = catch_up.next_page(self._hub, self._recall, self._clock)
            self._send_some(frames if frames or catch_up.done else [_progress(ref, catch_up)])
            if catch_up.done:
                del self._catching_up[ref]
                if reason is not None and new.source is not None and not new.shown:
                    self._begin_to_show(ref, new, new.source, catch_up, reason)
                else:
                    self._join(ref, catch_up, reason, live)

    def _send_some(self, frames: list[bytes]) -> None:
        self._send(frames)
        self._mailbox.poke()  # the client may have said something meanwhile, and `take` forgets that
        waiting.sleep(0)  # the others first, also when neither the log nor the client made us wait


def _progress(ref: str, catch_up: CatchUp) -> bytes:
    """A page showed nothing, or it is not this client's turn: who gave up now would begin there."""
    return control("sync", ref=ref, cursor=str(catch_up.since))
