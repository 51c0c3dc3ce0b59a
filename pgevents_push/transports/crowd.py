"""Crowd: the connections that were handed over: written to without waiting, watched, heard, and closed."""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from pgevents_push import waiting
from pgevents_push.transports.channel import Client
from pgevents_push.transports.peer import reset_at_close

log = logging.getLogger(__name__)

# How much of what a client should not have sent is read away at its end.
UNREAD_READS = 8
# So much of one client is read at a time; and for so long clients are read before all others have a turn. What comes
# is parsed in 50 us mostly, in 10 ms at the worst.
READ_BYTES, LISTEN_SECONDS = 4096, 0.001
# How long a client that can speak may take to answer our close, and how much may come before the answer.
LINGER_SECONDS, LINGER_BYTES, LINGER_READ = 1.0, 4_000_000, 65_536

_BROKEN = select.EPOLLHUP | select.EPOLLERR
_GONE = select.EPOLLRDHUP | _BROKEN
# Edge-triggered: what happened is told once, however long nobody can do anything about it.
_LEAVING = select.EPOLLRDHUP | select.EPOLLET


class Crowd:
    """The open connections of one broadcaster. They are in an epoll of their own, of which gevent watches only the one
    descriptor: a watcher for each would cost 200 bytes, and a call for each write.

    :param wake: called when something is to be heard.
    :param dropped: called with each client whose connection was closed.
    """

    def __init__(self, wake: Callable[[], None], dropped: Callable[[Client], None]) -> None:
        self._dropped = dropped
        self._clients: dict[int, Client] = {}
        self._speaking: dict[Client, None] = {}
        self._parting: dict[Client, tuple[float, int]] = {}  # until when, and how many bytes
        self._epoll: Any = waiting.epoll()
        self._unwatch = waiting.when_readable(self._epoll.fileno(), wake)

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        """Of those who are there now, whoever comes and goes meanwhile."""
        return iter(list(self._clients.values()))

    def __contains__(self, client: Client) -> bool:
        return client.socket.fileno() in self._clients

    def add(self, client: Client) -> None:
        """Take a connection in.

        :raises OSError: it cannot be watched.
        """
        self._epoll.register(client.socket, _interest(client))
        self._clients[client.socket.fileno()] = client

    def write(self, client: Client, data: bytes | memoryview, now: float) -> None:
        """Write what the kernel takes, and keep the rest with the client, until it can be written."""
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop(client)
            return
        client.sent_at = now
        if sent < len(data):
            client.rest = memoryview(data)[sent:]
            self._epoll.modify(client.socket, _interest(client) | select.EPOLLOUT)

    def add_to_rest(self, client: Client, data: bytes) -> bool:
        """Write this behind what a client could not take yet; False when it could take all."""
        if client.rest is None:
            return False
        client.rest = memoryview(bytes(client.rest) + data)
        return True

    def hear(self, most: int) -> tuple[list[Client], bool]:
        """Drop those who have left, and write what others could not take before; return who of these has got all of
        it, and whether there is more to hear."""
        events, relieved = self._epoll.poll(0, most), []
        for fd, what in events:
            client = self._clients.get(fd)
            if client is None:
                continue
            if what & (_GONE if client.ear is None else _BROKEN):
                self.drop(client)
                continue
            if client.ear is not None and what & (select.EPOLLIN | select.EPOLLRDHUP):
                self._speaking[client] = None
            if client.rest is not None and self._write_rest(client, client.rest):
                relieved.append(client)
        return relieved, len(events) == most

    def _write_rest(self, client: Client, rest: memoryview) -> bool:
        client.rest, before = None, client.sent_at
        self.write(client, rest, time.monotonic())
        if client.rest is not None and len(client.rest) == len(rest):
            client.sent_at = before
        if client.rest is not None or client not in self:
            return False
        self._epoll.modify(client.socket, _interest(client))
        return True

    def listen(self) -> bool:
        """Read a part of what clients have said; return whether there is more."""
        if not self._speaking:
            return False
        until = time.monotonic() + LISTEN_SECONDS
        for client in list(self._speaking):
            self._speaking.pop(client, None)
            if client in self and self._read(client) and client in self:
                self._speaking[client] = None  # behind the others
            if time.monotonic() > until:
                break
        return bool(self._speaking)

    def _read(self, client: Client) -> bool:
        """Read once; return whether there may be more."""
        try:
            data = client.socket.recv(LINGER_READ if client in self._parting else READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            self.drop(client)
            return False
        if client in self._parting:
            return self._read_away(client, data)
        assert client.ear is not None
        try:
            client.ear.hear(data)
        except Exception:  # a bug of ours must cost this client its connection, and no other
            log.exception("what a WebSocket client sent could not be understood")
            self.drop(client)
        return bool(data)

    def _read_away(self, client: Client, data: bytes) -> bool:
        until, left = self._parting[client]
        self._parting[client] = until, left - len(data)
        if data and left <= len(data):
            reset_at_close(client.socket)
        if not data or left <= len(data):
            self.drop(client)
        return True

    def part(self, client: Client) -> None:
        """Close a connection so that all that was written still arrives."""
        try:
            client.socket.shutdown(socket.SHUT_WR)
            if client.ear is not None:
                # Neither here, but a client that can speak is going to answer.
                self._parting[client] = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
                self._speaking[client] = None
                return
            # What is left unread would make the kernel reset the connection, and the client forget our last words.
            for _ in range(UNREAD_READS):
                client.socket.recv(65_536)
        except OSError:
            pass  # nothing is left to read, or the client was quicker
        self.drop(client)

    def let_go(self, most: int) -> None:
        """Drop those who took too long to answer our close."""
        now = time.monotonic() if self._parting else 0.0
        for client, (until, _) in list(islice(self._parting.items(), most)):
            if until <= now:
                self.drop(client)

    def drop(self, client: Client) -> None:
        """Let go of a connection. Gone already: does nothing."""
        if self._clients.pop(client.socket.fileno(), None) is not None:
            self._epoll.unregister(client.socket)
            self._speaking.pop(client, None)
            self._parting.pop(client, None)
            if client.ear is None:
                client.socket.close()
            client.closed, client.rest = client.closed or "departed", None
            self._dropped(client)

    def close(self) -> None:
        """Watch nobody any more."""
        self._unwatch()
        self._epoll.close()


def _interest(client: Client) -> int:
    return _LEAVING if client.ear is None else _LEAVING | select.EPOLLIN
