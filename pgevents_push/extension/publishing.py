"""Publishing: hands what was read to the hub, in pieces, and not faster than it can be delivered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pgevents_push import waiting
from pgevents_push.event import ChangeEvent
from pgevents_push.hub import Hub
from pgevents_push.listener import Batch
from pgevents_push.transports.handover import Exchange

# Encoding one takes 5 to 20 us: so many keep all others from their turn for 2 ms at most. So do as many deliveries
# into mailboxes, 1 to 2 us each.
PIECE_EVENTS, PIECE_DELIVERIES = 100, 2000
# Behind a piece of full size: time for the couriers to send.
COURIERS_SECONDS = 0.001
# Clients whose kernel takes no more are waited for as if they read at this pace; who is slower is left behind.
READING_BYTES_PER_SECOND = 20_000_000


class Piece(NamedTuple):
    """Some events of a batch, and how many bytes their rows are."""

    events: Sequence[ChangeEvent]
    size: int


class Publisher:
    """Gives the changes of one process to its hub.

    Under gevent no courier runs while the listener hands a batch on, and all clients would count as slow because of
    one large transaction: so it goes in pieces that fit well into a mailbox, with a turn of all others in between.

    :param max_queue_bytes: what may wait for one client.
    """

    def __init__(self, hub: Hub, exchange: Exchange | None, max_queue_bytes: int) -> None:
        self._hub, self._exchange = hub, exchange
        self._piece_bytes, self._most_waiting = max_queue_bytes // 4, max_queue_bytes // 2

    def publish(self, batch: Batch) -> None:
        """Hand on all events of a batch; returns when most of it is on its way to those who can take it."""
        most = max(1, min(PIECE_EVENTS, PIECE_DELIVERIES // (1 + self._hub.mailboxes)))
        for at, piece in enumerate(pieces(batch.events, self._piece_bytes, most)):
            if at:
                waiting.turn() if piece.size < self._piece_bytes else waiting.sleep(COURIERS_SECONDS)
            self._hub.publish(piece.events, piece.events[-1].cursor, batch.shapes)
            self._let_deliver(piece.size)
        if not batch.events:
            self._hub.publish((), str(batch.cursor), batch.shapes)

    def _let_deliver(self, size: int) -> None:
        exchange, until = self._exchange, time.monotonic() + size / READING_BYTES_PER_SECOND
        while exchange is not None:
            if exchange.kept <= self._most_waiting:  # what is owed is a part of what is kept
                return
            if time.monotonic() >= until and exchange.owed <= self._most_waiting:
                return
            waiting.sleep(COURIERS_SECONDS)


def pieces(events: Sequence[ChangeEvent], most_bytes: int, most_events: int) -> Iterator[Piece]:
    """Cut events into pieces of about so many bytes of rows, and at most so many events."""
    start, size = 0, 0
    for at, event in enumerate(events, 1):
        size += len(event.row_json or "") + len(event.old_json or "")
        if size >= most_bytes or at - start == most_events or at == len(events):
            yield Piece(events[start:at], size)
            start, size = at, 0
