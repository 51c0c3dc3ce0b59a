"""Handing a stream's connection over: from the server that accepted it to the broadcaster.

The stream is an ordinary response until it is live. Then its connection gets a second descriptor, which is the
broadcaster's, and what the server still holds is made a sink: it swallows the server's end of the body, and reads as
closed. So the iteration ends as that of any response, and hooks, middleware, logs and the server's own limits see an
ordinary one. Nothing is raised, and nothing that the server does later can reach the connection.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import Response

from pgevents_push import waiting
from pgevents_push.hub import Subscription, View
from pgevents_push.transports.channel import Client, Ear
from pgevents_push.transports.framing import CHUNKED, PLAIN, Framing, Wire
from pgevents_push.transports.peer import give_up_when_stuck
from pgevents_push.transports.places import Place
from pgevents_push.transports.switchboard import Switchboard

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The kernel would take 4 MB for a client that reads nothing, which no cap of ours sees.
SEND_BUFFER_BYTES = 128 * 1024


@dataclass(frozen=True)
class _Names:
    """How a server's object calls what must be known of a response.

    :param frames: whether what was written counts the framing.
    """

    sock: str
    chunked: str
    written: str
    headers: str
    frames: bool


_PYWSGI = _Names("socket", "response_use_chunked", "response_length", "response_headers", frames=True)
# Exactly these classes: one derived from them may write in another way (HTTP/2).
_SERVERS = {
    ("gunicorn.http.wsgi", "Response"): _Names("sock", "chunked", "sent", "headers", frames=False),
    ("gunicorn.workers.ggevent", "PyWSGIHandler"): _PYWSGI,
    ("gevent.pywsgi", "WSGIHandler"): _PYWSGI,
}


class Outlet:
    """The server's side of one response, as far as we know the server."""

    def __init__(self, owner: Any, names: _Names) -> None:
        self._owner, self._names = owner, names

    @classmethod
    def of(cls, write: object) -> Outlet | None:
        """Find it through the `write` that start_response returned (PEP 3333), which is a method of the server's."""
        owner = getattr(write, "__self__", None)
        names = _SERVERS.get((type(owner).__module__, type(owner).__qualname__))
        return None if names is None else cls(owner, names)

    @property
    def sock(self) -> Any:
        return getattr(self._owner, self._names.sock)

    @property
    def framing(self) -> Framing:
        return CHUNKED if getattr(self._owner, self._names.chunked) else PLAIN

    @property
    def written(self) -> int:
        """How many bytes the server has written."""
        return int(getattr(self._owner, self._names.written))

    def cost(self, chunk: bytes) -> int:
        """How many of them a chunk of the body makes."""
        return len(self.framing.wrap(chunk) if self._names.frames else chunk)

    @property
    def is_encoded(self) -> bool:
        """Whether a middleware promised the body in another form, or of a known length."""
        names = [
            name.decode() if isinstance(name, bytes) else name for name, _ in getattr(self._owner, self._names.headers)
        ]
        return any(name.lower() in ("content-encoding", "content-length") for name in names)


class Sink:
    """What a server keeps in place of a connection."""

    def __init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._kept, self._drain = socket.socketpair()
        self._drain.shutdown(socket.SHUT_WR)
        os.set_blocking(self._drain.fileno(), False)
        os.set_blocking(self._kept.fileno(), False)

    def replace(self, fd: int) -> None:
        """Make a descriptor one of the sink."""
        if not self._is_draining():
            self.close()
            self._open()
        os.dup2(self._kept.fileno(), fd, inheritable=False)

    def _is_draining(self) -> bool:
        try:
            return bool(os.read(self._drain.fileno(), 65_536))
        except BlockingIOError:
            return True

    def close(self) -> None:
        self._kept.close()
        self._drain.close()


class Exchange:
    """Where the connections of one process and app change hands."""

    def __init__(self, broadcaster: Switchboard) -> None:
        self._broadcaster = broadcaster
        self._sink = Sink()

    @property
    def connections(self) -> int:
        """How many connections were handed over and are open."""
        return self._broadcaster.connections

    @property
    def owed(self) -> int:
        """How many bytes the clients that could take them wait for, in the channel where it is most."""
        return self._broadcaster.owed

    @property
    def kept(self) -> int:
        """The same, for those too that could not."""
        return self._broadcaster.kept

    def stop(self) -> None:
        """End all streams that were handed over. Stopped already: does nothing."""
        self._broadcaster.stop()
        self._sink.close()

    def take(
        self,
        sock: Any,
        own: Subscription,
        views: Iterable[View],
        wire: Wire,
        place: Place,
        listening: Callable[[Switchboard], Ear] | None = None,
    ) -> Client | None:
        """Take the connection of a server's socket; None, and nothing has changed, when that is not possible.

        :param listening: returns who hears the client, if somebody does.
        """
        try:
            handle = _tuned(waiting.duplicate(sock), is_new=listening is None)
        except OSError:
            return None
        client = None
        try:
            ear = listening(self._broadcaster) if listening else None
            client = self._broadcaster.adopt(handle, own, views, wire, place, ear)
        except OSError:
            pass
        if client is not None:
            self._sink.replace(sock.fileno())
        else:
            handle.close()
        return client


class Handover:
    """The hand-over of one stream: it looks whether the server writes what the stream yields and nothing else, and only
    then takes the connection. In doubt the stream stays a response like any other.
    """

    def __init__(self, exchange: Exchange | None) -> None:
        self._exchange = exchange
        self._outlet: Outlet | None = None
        self._chunks = self._written = self._yielded = 0

    def meet(self, write: object) -> None:
        """Take note of the server, when the response begins."""
        self._outlet = Outlet.of(write)

    def note(self, chunk: bytes) -> None:
        """Take note of what the stream yields next, when the server has written all before it."""
        if self._outlet is None:
            return
        if self._chunks == 1:
            self._written = self._outlet.written  # the headers and the first chunk
        if self._chunks:
            self._yielded += self._outlet.cost(chunk)
        self._chunks += 1

    def is_possible(self) -> bool:
        """Whether the server has written what was yielded, and nothing else. Once in doubt, in doubt for good."""
        outlet, chunks = self._outlet, self._chunks
        if self._exchange is None or outlet is None or chunks < 2 or not waiting.is_plain(outlet.sock):
            return False
        if outlet.is_encoded or outlet.written - self._written != self._yielded:
            self._exchange = None
            return False
        return True

    def give(self, own: Subscription, views: Iterable[View], place: Place) -> bool:
        """Hand the connection over; return whether that was possible.

        :param place: the connection's; it goes with it.
        """
        if self._exchange is None or self._outlet is None or not self.is_possible():
            return False
        return self._exchange.take(self._outlet.sock, own, views, self._outlet.framing, place) is not None


class StreamResponse(Response):
    """A response that tells its hand-over which server it goes to."""

    handover = Handover(None)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(*arguments: Any) -> Callable[[bytes], object]:
            write = start_response(*arguments)
            self.handover.meet(write)
            return write

        return super().__call__(environ, start)


def _tuned(handle: Any, is_new: bool) -> Any:
    """A WebSocket's has been tuned at its handshake (ws_socket.py)."""
    handle.setblocking(False)
    if not is_new:
        return handle
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    give_up_when_stuck(handle)
    if handle.family in (socket.AF_INET, socket.AF_INET6):
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return handle
