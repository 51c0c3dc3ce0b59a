"""Channel: the frames of clients that see the same, kept once for all of them; pure."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pgevents_push.hub import CloseReason, Pending, View, size_of
from pgevents_push.transports.framing import Framing, Wire

# So much is joined into one write. More would let others wait longer, and saves nothing.
WRITE_BYTES = 65_536

Key = tuple[frozenset[View], Wire]


class Ear(Protocol):
    """Who hears what the client of a connection says: a WebSocket has one, a stream has none."""

    client: Client

    def hear(self, data: bytes) -> None:
        """Take what the client sent; nothing means that it says no more. Must not wait."""
        ...

    def forget(self, now: float) -> None:
        """Let go of what is of no use any more when the client has said nothing for long."""
        ...

    def end(self, reason: CloseReason) -> None:
        """See Client.close."""
        ...

    def lose(self) -> None:
        """The connection is over. Its socket is the ear's to close."""
        ...


class Client:
    """One connection, its place in a channel, and the bytes that the kernel did not take yet.

    To the hub it is the mailbox of its stream, without views: it is told when the stream is to end. Small, because
    ten thousand of them wait for something to happen.

    :param socket: a plain one that never waits.
    :param ended: called with this client when it is to end.
    :param leave: called when it is gone.
    :param ear: who hears it.
    """

    __slots__ = ("channel", "closed", "ear", "ended", "leave", "opened_at", "position", "rest", "sent_at", "socket")

    def __init__(
        self,
        channel: Channel,
        socket: Any,
        ended: Callable[[Client], None],
        leave: Callable[[], None],
        ear: Ear | None = None,
    ) -> None:
        self.channel, self.position = channel, channel.horizon
        self.socket, self.ended, self.leave, self.ear = socket, ended, leave, ear
        self.closed: CloseReason | None = None
        self.rest: memoryview | None = None
        self.opened_at = self.sent_at = time.monotonic()

    @property
    def queued_bytes(self) -> int:
        return len(self.rest or b"") + self.channel.lag(self.position)

    def put(self, frame: bytes | Pending) -> int:
        """Its frames come to the channel."""
        return 0

    def close(self, reason: CloseReason) -> None:
        """End the stream with a `bye`. Ending already: does nothing."""
        if self.closed is None:
            self.closed = reason
            self.ended(self)


class Channel:
    """A mailbox of the hub that many clients read, each from a position of its own: the number of a frame.

    What several of them want next is joined and framed once. A frame is forgotten when all have it. One that is
    pending keeps its number, and those behind it waiting: all members have the same views, and so the same rights.

    :param max_bytes: what may wait behind a frame that is pending; then the streams end, and come back.
    :param fresh: called with this channel when there is something new for its clients; not again while `is_fresh`.
    """

    __slots__ = (
        "_first", "_frames", "_fresh", "_held", "_held_bytes", "_made", "_made_for", "_max_bytes", "_starts", "closed",
        "is_fresh", "key", "members", "opened_at", "wire",
    )  # fmt: skip

    def __init__(self, key: Key, fresh: Callable[[Channel], None], max_bytes: int) -> None:
        self.key, self.wire = key, key[1]
        self.opened_at = time.monotonic()
        self.closed: CloseReason | None = None
        self.members: dict[Client, None] = {}
        self.is_fresh = False
        self._fresh = fresh
        self._frames: list[bytes] = []
        self._starts = [0]  # how many bytes came before each frame, since ever; and, last, how many came at all
        self._first = 0
        self._held: deque[bytes | Pending] = deque()  # empty, or the first one is pending
        self._held_bytes, self._max_bytes = 0, max_bytes
        self._made_for = (-1, -1)
        self._made = (b"", 0)

    @property
    def end(self) -> int:
        """The position of whoever has got everything."""
        return self._first + len(self._frames)

    @property
    def horizon(self) -> int:
        """The position behind all that was put, pending or not: where a client begins that joins now."""
        return self.end + len(self._held)

    def put(self, frame: bytes | Pending) -> int:
        """Add a frame for all members; return how many they are, 0 when too much waits behind one that is pending."""
        if self._held or not isinstance(frame, bytes):
            return self._hold(frame)
        self._frames.append(frame)
        self._starts.append(self._starts[-1] + len(frame))
        if not self.is_fresh:
            self.is_fresh = True
            self._fresh(self)
        return len(self.members)

    def _add(self, frame: bytes) -> None:
        self._frames.append(frame)
        self._starts.append(self._starts[-1] + len(frame))

    def _hold(self, frame: bytes | Pending) -> int:
        if self._held and self._held_bytes + size_of(frame) > self._max_bytes:
            self.close("overflow")  # all who would miss this frame, also those that came since the first such one
            return 0
        self._held.append(frame)
        self._held_bytes += size_of(frame)
        if not isinstance(frame, bytes):
            frame.watch(self._settle)
            if frame.is_ready:
                self._settle()
        return len(self.members)

    def _settle(self) -> None:
        """Take over what no longer waits for anything. What turns out to be nothing keeps its number."""
        while self._held and (isinstance(first := self._held[0], bytes) or first.is_ready):
            self._held_bytes -= size_of(first)
            self._add(first if isinstance(first, bytes) else first.frame or b"")
            self._held.popleft()
        self.freshen()

    def freshen(self) -> None:
        """Say that somebody is to look what the members lack."""
        if not self.is_fresh:
            self.is_fresh = True
            self._fresh(self)

    def close(self, reason: CloseReason) -> None:
        """End the streams of all members."""
        for client in self.members:
            client.close(reason)

    def after(self, position: int) -> tuple[bytes, int]:
        """Return what to send next to a client, and its position then. Nothing when it has got everything."""
        wanted = (position, self.end)
        if wanted != self._made_for:
            joined, reached = self.between(*wanted)
            self._made_for, self._made = wanted, (self.wire.wrap(joined), reached)
        return self._made

    def between(self, position: int, end: int) -> tuple[bytes, int]:
        """Return the frames between two positions, as many as one write may have, and the position after them."""
        at, end = position - self._first, end - self._first
        if at >= end:
            return b"", position
        if at + 1 == end:
            return self._frames[at], position + 1
        # One frame always, however large.
        fits = bisect_right(self._starts, self._starts[at] + WRITE_BYTES) - 1
        upto = min(end, max(at + 1, fits))
        return b"".join(self._frames[at:upto]), self._first + upto

    def take(self, client: Client) -> bytes:
        """Let the only client have what is next, as much as one write may have, and forget it."""
        if len(self._frames) == 1 and client.position == self._first:  # nearly always, and in half of the time
            client.position = self._first = self._first + 1
            del self._starts[0]
            self._made_for, self._made = (-1, -1), (b"", 0)
            return self._frames.pop()
        frames, client.position = self.between(client.position, self.end)
        self.forget(client.position)
        return frames

    def unsent(self, position: int) -> list[bytes | Pending]:
        """Return all that a client at this position has not been sent."""
        return [*self._frames, *self._held][position - self._first :]

    def lag(self, position: int) -> int:
        """Return how many bytes a client at this position has not been sent."""
        return self._starts[-1] - self._starts[min(position, self.end) - self._first]

    @property
    def queued_bytes(self) -> int:
        """How many bytes are kept, because some member has not been sent them."""
        return self._starts[-1] - self._starts[0]

    @property
    def owed_alone(self) -> int:
        """Of a channel with a single member: how many bytes that one lacks and could take."""
        return sum(self.lag(client.position) for client in self.members if client.rest is None and not client.closed)

    def forget(self, position: int) -> None:
        """Let go of the frames before a position; who came behind one that is pending is beyond the end."""
        position = min(position, self.end)
        gone = position - self._first
        del self._frames[:gone], self._starts[:gone]
        self._first = position
        self._made_for, self._made = (-1, -1), (b"", 0)


# That of clients that have a mailbox of their own for a while.
NOWHERE = Channel((frozenset(), Framing(False)), lambda channel: None, 0)


class Round:
    """One turn of all members of a channel. Over when none of them lacks what it could take."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.is_over = False
        self._since = channel.end
        self._begin()

    def _begin(self) -> None:
        self.clients: Iterator[Client] = iter(list(self.channel.members))
        self._lowest = self._lacking = self.channel.end

    @property
    def owed(self) -> int:
        """How many bytes came since all who can take them had everything."""
        return self.channel.lag(self._since)

    def note(self, client: Client) -> None:
        """Take note of where a client is after its turn."""
        if client.position < self._lowest and client in self.channel.members:
            self._lowest = client.position
        if client.position < self._lacking and client.rest is None and client.closed is None:
            self._lacking = client.position

    def end(self) -> None:
        """All had their turn: forget what all have got, and begin anew if something came meanwhile."""
        self.channel.forget(self._lowest)
        self._since = self._lacking
        if self._lacking < self.channel.end:
            self._begin()
        else:
            self.is_over, self.channel.is_fresh = True, False
