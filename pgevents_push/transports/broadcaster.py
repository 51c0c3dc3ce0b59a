"""Broadcaster: one greenlet that writes to all connections that were handed over."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.hub import Hub, Subscription, View
from pgevents_push.process import process
from pgevents_push.transports.channel import NOWHERE, Channel, Client, Ear, Key
from pgevents_push.transports.closing import jittered_milliseconds
from pgevents_push.transports.crowd import Crowd
from pgevents_push.transports.framing import Wire
from pgevents_push.transports.places import Place
from pgevents_push.transports.rounds import Rounds
from pgevents_push.transports.silence import Silence

log = logging.getLogger(__name__)

# Writes between two turns of all others: 0.3 ms. With 1,000 the throughput is no better, and others wait for 6 ms.
SLICE = 64
# So long the last words may take when the process stops.
STOP_SECONDS = 1.0


class Broadcaster:
    """The handed-over connections of one process and app.

    Its work is cut into slices, between which all others have a turn. In a slice each kind of work has its share, and
    the channels take turns: ten thousand rows of one table do not keep the single row of another waiting.
    """

    def __init__(self, hub: Hub, config: Config) -> None:
        self.hub, self._config = hub, config
        self._process = process()
        self._stopped = False
        self._wake = threading.Event()
        self._crowd: Crowd | None = None
        self._channels: dict[Key, Channel] = {}
        self._rounds = Rounds(self._wake.set, config.max_queue_bytes)
        self._behind: deque[Client] = deque()
        self._ending: deque[tuple[Client, int]] = deque()
        self._ended = self._note_ended  # one for all clients: each access would make another
        self._silence = Silence(hub, config, self._wake.set)

    def adopt(
        self, handle: Any, own: Subscription, views: Iterable[View], wire: Wire, place: Place, ear: Ear | None = None
    ) -> Client | None:
        """Write to a connection from now on, in place of the mailbox that it had; None, and nothing has changed,
        while something in that is pending.

        :param handle: a plain socket that does not wait. It belongs to the broadcaster when this returns a client; or
            to the ear.
        :param place: the connection's, which is given back when that is gone; by the ear, if it has one.
        :raises OSError: it cannot be watched; then nothing has changed.
        """
        crowd, key = self._start(), (frozenset(views), wire)
        entered: list[Client] = []

        def enter() -> tuple[Client, Channel]:
            client = Client(self._channel(key), handle, self._ended, ear.lose if ear else place.leave, ear)
            if ear:
                ear.client = client
            client.channel.members[client] = None
            try:
                crowd.add(client)
            except OSError:
                self._leave_channel(client)
                raise
            entered.append(client)
            return client, client.channel

        queued = self.hub.share(own, enter)
        for client in entered:
            place.occupy(ear.end if ear else client.close)
            if queued:
                crowd.write(client, wire.wrap(b"".join(queued)), time.monotonic())
            return client
        return None

    def stop(self) -> None:
        """Say their last words to those that are to end, and drop all. Stopped already: does nothing."""
        deadline = time.monotonic() + STOP_SECONDS
        while self._crowd and time.monotonic() < deadline:
            if not self._work(self._crowd):
                waiting.sleep(0.005)
        self._cut()
        self._stopped = True
        self._wake.set()

    @property
    def connections(self) -> int:
        """How many connections it has."""
        return len(self._crowd or ())

    @property
    def owed(self) -> int:
        """How many bytes the clients that could take them wait for, in the channel where it is most."""
        return self._rounds.owed

    @property
    def kept(self) -> int:
        """The same, for those too that could not."""
        return self._rounds.kept

    def _start(self) -> Crowd:
        if self._crowd is None:
            self._crowd = Crowd(self._wake.set, self._forget)
            self._wake.set()
            waiting.spawn(self._run, self._crowd, name="pgevents-broadcaster")
        return self._crowd

    def _run(self, crowd: Crowd) -> None:
        while not self._over:
            self._wake.wait()
            self._wake.clear()
            try:
                while not self._over and self._work(crowd):
                    waiting.turn()
            except Exception:  # a bug of ours must cost these streams a reconnect, and not stop all that come later
                log.exception("the broadcaster failed; its streams are cut")
                self._cut()
        crowd.close()

    @property
    def _over(self) -> bool:
        """Stopped; or a forked child, which runs a copy of this loop and has the same connections."""
        return self._stopped or self._process != process()

    def _work(self, crowd: Crowd) -> bool:
        """Do one slice; return whether more is to be done."""
        self._end_some(crowd)
        crowd.let_go(SLICE)
        relieved, heard = crowd.hear(SLICE)
        spoken = crowd.listen()
        self._go_on(crowd, relieved)
        self._rounds.go(crowd, SLICE)
        self._catch_up(crowd)
        looked = self._silence.look(crowd, SLICE)
        return bool(heard or spoken or looked or self._ending or self._rounds or self._behind)

    # --- Who gets what

    def _channel(self, key: Key) -> Channel:
        if key not in self._channels:
            self._channels[key] = Channel(key, self._rounds.begin, self._config.max_queue_bytes)
        return self._channels[key]

    def _serve(self, crowd: Crowd, client: Client) -> None:
        data, client.position = client.channel.after(client.position)
        if data:
            crowd.write(client, data, time.monotonic())

    def _go_on(self, crowd: Crowd, relieved: Iterable[Client]) -> None:
        for client in relieved:
            if client in client.channel.members:
                self._behind.append(client)
            elif client.closed is not None:  # else it spoke meanwhile, and has a mailbox of its own
                self._part(crowd, client)  # those were its last words

    def _catch_up(self, crowd: Crowd) -> None:
        """Serve those that could not take all, and now can."""
        for _ in range(min(SLICE, len(self._behind))):
            client = self._behind.popleft()
            if client.closed is None and client.rest is None:
                before = client.position
                self._serve(crowd, client)
                if client.position > before:
                    self._behind.append(client)
                else:
                    client.channel.freshen()  # frames may have been kept for this one alone

    # --- Ends

    def _note_ended(self, client: Client) -> None:
        self.hub.counts["overflows"] += client.closed == "overflow"
        self._ending.append((client, client.channel.end))
        self._wake.set()

    def _end_some(self, crowd: Crowd) -> None:
        for _ in range(min(SLICE, len(self._ending))):
            client, end = self._ending.popleft()
            if client in crowd and client.channel is not NOWHERE:
                self._end(crowd, client, end)

    def _end(self, crowd: Crowd, client: Client, end: int) -> None:
        """Say why, behind what waits for the client and came before its end."""
        self._say_last(crowd, client, self._last_words(client, end))

    def _say_last(self, crowd: Crowd, client: Client, words: bytes) -> None:
        self._leave_channel(client)
        if crowd.add_to_rest(client, words):
            return
        crowd.write(client, words, time.monotonic())
        if client.rest is None:
            self._part(crowd, client)

    def _part(self, crowd: Crowd, client: Client) -> None:
        if client in crowd:
            crowd.part(client)
            self._wake.set()

    def _last_words(self, client: Client, end: int) -> bytes:
        assert client.closed is not None
        frames = b""
        if client.closed != "overflow":  # it gets them when it comes back
            frames, _ = client.channel.between(client.position, end)
        retry = jittered_milliseconds(self._config.retry_seconds)
        return client.channel.wire.goodbye(frames, client.closed, retry)

    def _forget(self, client: Client) -> None:
        """Its connection is closed."""
        self._leave_channel(client)
        self.hub.disconnect(client)
        client.leave()

    def _leave_channel(self, client: Client) -> None:
        channel = client.channel
        if channel.members.pop(client, self) is None and not channel.members:
            del self._channels[channel.key]
            self.hub.unshare(channel)

    def _cut(self) -> None:
        if self._crowd is not None:
            for client in self._crowd:
                self._crowd.drop(client)
        self._rounds.clear()
        self._behind.clear()
        self._ending.clear()
