"""Silence: who was sent nothing for a heartbeat gets a sign of life; who takes nothing is let go of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.hub import Hub
from pgevents_push.transports import peer
from pgevents_push.transports.channel import NOWHERE, Client
from pgevents_push.transports.crowd import Crowd
from pgevents_push.transports.framing import Wire

# How often in a heartbeat, or in the time that a WebSocket client has to take something, the silent ones are looked
# for, and how many are looked at in a slice.
LOOKS, LOOK_SLICE = 8, 500


class Silence:
    """The looks at a crowd.

    :param wake: called when it is time for one.
    """

    def __init__(self, hub: Hub, config: Config, wake: Callable[[], None]) -> None:
        self._hub, self._config, self._wake = hub, config, wake
        self._is_timed = False
        self._looking: Iterator[Client] = iter(())
        self._look_at = 0.0
        self._beats: dict[Wire, tuple[str | None, bytes]] = {}

    def look(self, crowd: Crowd, most_beats: int) -> bool:
        """Look at some clients; return whether there are more to look at."""
        now, heartbeat = time.monotonic(), self._config.heartbeat_seconds
        if now >= self._look_at:
            pause = min(heartbeat, self._config.send_timeout_seconds) / LOOKS
            self._looking, self._look_at = iter(crowd), now + pause
            self._ring_at_look()
        seen = beats = 0
        for client in islice(self._looking, LOOK_SLICE):
            seen += 1
            if client.ear is not None:
                client.ear.forget(now)
            if client.rest is not None:
                self._drop_if_stuck(crowd, client, now)
            elif client.closed is None and client.sent_at <= self._look_at - heartbeat:
                self._beat(crowd, client)
                beats += 1
                if beats == most_beats:
                    return True
        return seen == LOOK_SLICE

    def _ring_at_look(self) -> None:
        """Wake up when it is time to look. One timer at a time: where there is much to do, looks come by themselves."""
        if not self._is_timed:
            self._is_timed = True
            waiting.call_after(max(0.0, self._look_at - time.monotonic()), self._time_is_up)

    def _time_is_up(self) -> None:
        self._is_timed = False
        if time.monotonic() < self._look_at:
            self._ring_at_look()
        else:
            self._wake()

    def _drop_if_stuck(self, crowd: Crowd, client: Client, now: float) -> None:
        patience = peer.STUCK_SECONDS if client.ear is None else self._config.send_timeout_seconds
        if now - client.sent_at > patience:
            peer.reset_at_close(client.socket)
            crowd.drop(client)

    def _beat(self, crowd: Crowd, client: Client) -> None:
        """Send a `sync`, which moves the client's cursor although nothing concerned it; or, where something is pending
        that does, or it sees nothing yet, another sign of life, so that nobody takes the connection for dead."""
        channel = client.channel
        if client.position < channel.end or channel is NOWHERE:
            return
        views, wire = channel.key
        cursor = self._hub.cursor if views and client.position == channel.horizon else None
        made_for, beat = self._beats.get(wire, (None, b""))
        if not beat or made_for != cursor:
            beat = wire.beat(cursor)
            self._beats[wire] = (cursor, beat)
        crowd.write(client, beat, time.monotonic())
