"""Rounds: who is to be written to next, so that all channels get on and none costs more than it must."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from pgevents_push.transports.channel import Channel, Client, Round
from pgevents_push.transports.crowd import Crowd
from pgevents_push.transports.framing import Wire


class Rounds:
    """The channels that have something new for their members. False when there is none.

    :param wake: called when there is one again.
    :param max_queue_bytes: a client that takes nothing and lacks more than this is ended.
    """

    def __init__(self, wake: Callable[[], None], max_queue_bytes: int) -> None:
        self._wake, self._max_queue_bytes = wake, max_queue_bytes
        self._rounds: deque[Round] = deque()
        # Those with a single member, as where each client has rights of its own: a round for each took twice the time
        # of the write.
        self._alone: deque[Channel] = deque()

    def __bool__(self) -> bool:
        return bool(self._rounds or self._alone)

    def clear(self) -> None:
        """Forget all of them."""
        self._rounds.clear()
        self._alone.clear()

    @property
    def owed(self) -> int:
        """How many bytes the clients that could take them wait for, in the channel where it is most."""
        rounds = max((turn.owed for turn in self._rounds), default=0)
        return max(rounds, max((channel.owed_alone for channel in self._alone), default=0))

    @property
    def kept(self) -> int:
        """The same, for those too that could not."""
        rounds = max((turn.channel.queued_bytes for turn in self._rounds), default=0)
        return max(rounds, max((channel.queued_bytes for channel in self._alone), default=0))

    def begin(self, channel: Channel) -> None:
        """Let the members of a channel have what is new in it."""
        if not self._rounds and not self._alone:
            self._wake()
        if len(channel.members) == 1:
            self._alone.append(channel)
        else:
            self._rounds.append(Round(channel))

    def go(self, crowd: Crowd, most: int) -> None:
        """Serve so many clients. The channels take turns; those with one member have half of it, as one of them."""
        left = most - self._serve_alone(crowd, most // 2 if self._rounds else most)
        while left > 0 and self._rounds:
            turn = self._rounds.popleft()
            left -= self._serve_some(crowd, turn, left)
            if not turn.is_over:
                self._rounds.append(turn)

    def _serve_alone(self, crowd: Crowd, most: int) -> int:
        """Serve the only clients of some channels, each with rights of its own, mostly with the same frame; return how
        many were looked at."""
        now, joined, data = time.monotonic(), b"", b""
        wire: Wire | None = None
        for seen in range(most):
            if not self._alone:
                return seen
            channel = self._alone.popleft()
            if len(channel.members) != 1:
                self._rounds.append(Round(channel))
                continue
            [client] = channel.members
            if client.closed is None and client.rest is None:
                frames = channel.take(client)
                if frames is not joined or channel.wire is not wire:
                    joined, wire, data = frames, channel.wire, channel.wire.wrap(frames)
                if data:
                    crowd.write(client, data, now)
                    if client.rest is not None:
                        self._bound_behind(client)
            else:
                self._bound(client)
                channel.forget(client.position)
            if client.position < channel.end and client.closed is None and client.rest is None:
                self._alone.append(channel)
            else:
                channel.is_fresh = False
        return most

    def _serve_some(self, crowd: Crowd, turn: Round, most: int) -> int:
        """Serve some clients of a channel; return how many were looked at.

        Nearly all are at one position, and can take what is next: that is found out once. Nothing is put into the
        channel meanwhile.
        """
        channel, now = turn.channel, time.monotonic()
        seen, at, data, reached, noted = 0, -1, b"", -1, -1
        for client in islice(turn.clients, most):
            seen += 1
            if client.channel is not channel:
                continue  # a WebSocket that sees something else by now
            if client.closed is None and client.rest is None:
                if client.position != at:
                    at = client.position
                    data, reached = channel.after(at)
                if data:
                    client.position = reached
                    crowd.write(client, data, now)
                    if client.rest is not None:
                        self._bound_behind(client)
                if reached == noted:
                    continue
            else:
                self._bound(client)
            turn.note(client)
            noted = client.position if client.rest is None and client.closed is None else -1
        if seen < most:
            turn.end()
        return max(seen, 1)

    def _bound(self, client: Client) -> None:
        if client.closed is None and client.queued_bytes > self._max_queue_bytes:
            client.close("overflow")

    def _bound_behind(self, client: Client) -> None:
        """The same for one that was just sent something: one frame may always wait, however large."""
        if client.channel.lag(client.position) > self._max_queue_bytes:
            client.close("overflow")
