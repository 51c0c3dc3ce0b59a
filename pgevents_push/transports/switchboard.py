"""Switchboard: a broadcaster whose clients may speak as well, and are then served by somebody else for a while."""

from __future__ import annotations

import time
from collections.abc import Iterable

from pgevents_push.hub import Mailbox, Subscription, View
from pgevents_push.transports.broadcaster import Broadcaster
from pgevents_push.transports.channel import NOWHERE, Channel, Client
from pgevents_push.transports.framing import Wire


class Switchboard(Broadcaster):
    """What the ears of clients do with their connections. None of it waits."""

    def withdraw(self, client: Client) -> tuple[Subscription, Iterable[View], bytes]:
        """Give a client a mailbox of its own: what waits for it is there, and nothing is written to it here until it
        comes back. Return that, what it sees, and what is to be written first."""
        channel, rest = client.channel, bytes(client.rest or b"")
        own = self.hub.connect(self._config.max_queue_bytes)
        own.opened_at = client.opened_at
        self.hub.withdraw(channel, own, channel.unsent(client.position))
        self.hub.disconnect(client)
        self._leave_channel(client)
        client.channel, client.position, client.rest = NOWHERE, NOWHERE.horizon, None
        if client.closed:
            own.close(client.closed)
        return own, channel.key[0], rest

    def come_back(self, client: Client, own: Subscription, views: Iterable[View], wire: Wire) -> bool:
        """Write to a client again; see `adopt`."""
        key = (frozenset(views), wire)

        def enter() -> tuple[Mailbox, Channel]:
            client.channel = self._channel(key)
            client.position = client.channel.horizon
            client.channel.members[client] = None
            return client, client.channel

        crowd, queued = self._start(), self.hub.share(own, enter)
        if queued and client in crowd:
            crowd.write(client, wire.wrap(b"".join(queued)), time.monotonic())
        if client not in crowd:  # it left meanwhile
            self._leave_channel(client)
            self.hub.disconnect(client)
        return queued is not None

    def say(self, client: Client, data: bytes) -> None:
        """Write something beside the frames, behind none of them. It does not count as a sign of life."""
        if self._crowd and not self._crowd.add_to_rest(client, data):
            before = client.sent_at
            self._crowd.write(client, data, time.monotonic())
            if client.rest is None:
                client.sent_at = before

    def dismiss(self, client: Client, words: bytes) -> None:
        """Say some last words and part, or only part when there are none. Gone already: does nothing."""
        if self._crowd and client in self._crowd:
            client.closed = client.closed or "departed"
            self._say_last(self._crowd, client, words)
            if self._over:
                self.drop(client)

    def drop(self, client: Client) -> None:
        """Let go of a connection at once. Gone already: does nothing."""
        if self._crowd:
            self._crowd.drop(client)
