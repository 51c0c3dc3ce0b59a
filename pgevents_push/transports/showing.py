"""Showing: the rows that a stream begins with, from the shipment to its courier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pgevents_push.errors import Altered, ConnectionLost, PGEventsError, TooSlow, Unavailable
from pgevents_push.hub import Chunk, CloseReason, Shipment, Subscription, View

# Reads, in the background, what views show of their tables, at most so many rows of each, into a Shipment.
Take = Callable[[Sequence[View], int | None, Shipment], None]


RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True)
class Source:
    """Where the rows come from that a client wants to see before their changes.

    :param limit: how many of each table at most; None for all.
    """

    take: Take
    limit: int | None = None

    def read(self, views: Sequence[View], encode: Callable[[Chunk], bytes], mailbox: Subscription) -> Shipment:
        """Begin to read; the mailbox is poked whenever there is something to take."""
        shipment = Shipment(encode, mailbox.max_bytes, mailbox.poke)
        self.take(views, self.limit, shipment)
        return shipment


def frames(shipment: Shipment, mailbox: Subscription, seconds: float) -> Iterator[bytes | None]:
    """Yield what is read, until it is `done` or the mailbox closed; None where there was nothing for some time, at
    most `seconds`.

    :param mailbox: the one that the shipment pokes; nothing else comes into it meanwhile.
    :raises PGEventsError: why there will be no more.
    """
    while mailbox.closed is None:
        frame = shipment.take()
        if frame is not None:
            yield frame
        elif shipment.done:
            return
        else:
            mailbox.take(seconds)
            yield None


def close_reason(failure: PGEventsError) -> CloseReason:
    """Tell why a stream ends whose rows cannot come."""
    if isinstance(failure, TooSlow):
        return "overflow"
    return "schema" if isinstance(failure, Altered) else "failed"


def refusal(failure: PGEventsError) -> Unavailable:
    """Return what a client is told of rows that cannot come: nothing of hosts, roles and grants."""
    if isinstance(failure, ConnectionLost):
        text = "The database is away."
    elif isinstance(failure, TooSlow | Altered):
        text = str(failure)
    else:
        text = "The rows of this table cannot be read; the server's log says why."
    return Unavailable(text, retry_after=RETRY_AFTER_SECONDS)
