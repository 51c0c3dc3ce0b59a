"""Makes a connection of flask-sock safe. Everything that simple-websocket lacks is cured here, from outside.

simple-websocket 1.1.0 ignores short writes (a stream to a slow client becomes garbage under gevent), lets two
writers interleave, agrees to any compression (408 kB received became 874 MB), queues without bound what
clients send, and waits for ever for a client that does not read. Its reader and its handshake stay in use;
everything it does with the socket goes through GuardedSocket.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from wsproto.connection import ConnectionState

from pgevents_push import waiting
from pgevents_push.errors import ConnectionLost
from pgevents_push.hub import View
from pgevents_push.transports.peer import reset_at_close
from pgevents_push.transports.ws_flood import (
    BURST_FRAMES,
    BURST_IN_MAX_MESSAGES,
    BURST_MESSAGES,
    FRAMES_PER_SECOND,
    MAX_MESSAGES_PER_SECOND,
    MESSAGES_PER_SECOND,
    Allowance,
    Flood,
    FrameCounter,
)
from pgevents_push.transports.ws_protocol import close_frame, joined

SEND_BUFFER_BYTES = 128 * 1024  # the kernel hides 2.7 MB of a slow client's delay when it may choose
LINGER_SECONDS = 1.0  # how long a client may take to answer our close
DRAIN_BYTES = 4_000_000


class GuardedSocket:
    """What simple-websocket gets instead of the server's socket.

    Writes are whole, one at a time and with a deadline. Reading begins with `start`, when the connection has
    its limits: simple-websocket's reader runs before its constructor returns. Closing only tells us, because
    the server owns the socket and closes it after the view.

    :param may_be_given: whether the server is one of those that a connection can be taken from.
    """

    def __init__(self, sock: Any, send_timeout: float, max_message_bytes: int, may_be_given: bool = False) -> None:
        self._sock, self._send_timeout, self._may_be_given = sock, send_timeout, may_be_given
        self._lock = threading.Lock()
        self._started, self.reader_ended = threading.Event(), threading.Event()
        self._wake: Callable[[], None] = lambda: None
        self._may_write: Callable[[], bool] = lambda: True
        self._finished = False
        self._is_given = False
        self.flooded = False
        self._bytes = Allowance(BURST_IN_MAX_MESSAGES * max_message_bytes, MAX_MESSAGES_PER_SECOND * max_message_bytes)
        self._frames, self._counter = Allowance(BURST_FRAMES, FRAMES_PER_SECOND), FrameCounter()
        _tune(sock, send_timeout)

    def start(self, wake: Callable[[], None], may_write: Callable[[], bool]) -> None:
        """Let the reader read.

        :param wake: called when it has ended.
        :param may_write: whether frames may still follow; not after simple-websocket has sent a close.
        """
        self._wake, self._may_write = wake, may_write
        self._started.set()

    def give(self, take: Callable[[Any], bool]) -> bool:
        """Let somebody take the connection, before it was read from; return whether that was possible. Nothing is done
        with the server's socket then, which is no longer that of the connection."""
        if not self._may_be_given or not waiting.is_plain(self._sock) or not take(self._sock):
            return False
        self._is_given = self._finished = True
        self._started.set()
        return True

    def fileno(self) -> int:
        return int(self._sock.fileno())

    def dup(self) -> GuardedSocket:
        return self

    def recv(self, size: int) -> bytes:
        self._started.wait()
        if self._is_given:
            raise ConnectionAbortedError("the connection was handed over")
        data = self._recv_tls(size) if waiting.is_tls(self._sock) else self._sock.recv(size)
        self.spend(self._bytes, len(data))
        self.spend(self._frames, self._counter.feed(data))
        return bytes(data)

    def spend(self, allowance: Allowance, amount: float) -> None:
        """Count what the client sent.

        :raises Flood: it was too much; the reader ends, and the connection with it.
        """
        if not allowance.take(amount):
            self.flooded = True
            raise Flood("the client sends too much")

    def _recv_tls(self, size: int) -> Any:
        # OpenSSL forbids to read and write one connection at the same time, so this waits outside of the lock.
        while True:
            if not self._sock.pending():
                waiting.wait_any([self.fileno()])
            with self._lock:
                try:
                    return self._sock.recv(size)
                except TimeoutError:
                    continue

    def send(self, data: bytes) -> int:
        """Send all of it, whatever the name says: simple-websocket does not look at the result."""
        with self._lock:
            self._send(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def write(self, data: bytes, last: bool = False) -> None:
        """Send frames of our own, unless the connection is closing; after the `last` nothing follows.

        :raises OSError: the client is gone, or took nothing until the deadline.
        """
        with self._lock:
            if self._may_write():
                self._send(data)
            self._finished = self._finished or last

    def _send(self, data: bytes) -> None:
        if self._finished:
            return
        try:
            waiting.send_all(self._sock, data, self._send_timeout)
        except (OSError, ConnectionLost) as error:
            self._finished = True  # half a frame may be out: nothing that follows would be understood
            self.reset_at_close()
            if isinstance(error, OSError):
                raise
            raise TimeoutError(str(error)) from None

    def close(self) -> None:
        """What the reader calls last."""
        self.reader_ended.set()
        self._wake()

    def shutdown(self, how: int) -> None:
        """Shut the connection below any TLS, which would otherwise wait for the peer. Closed: does nothing."""
        self._below(lambda handle: handle.shutdown(how))

    def reset_at_close(self) -> None:
        """See peer.reset_at_close; it is the server that closes."""
        self._below(reset_at_close)

    def drain(self, seconds: float) -> None:
        """Read what the client still sends until it closes, within reason. A socket that is closed with unread
        bytes resets the connection, and the client never sees why."""
        deadline, left = time.monotonic() + seconds, DRAIN_BYTES

        def read_away(handle: Any) -> None:
            nonlocal left
            while left > 0 and waiting.wait_any([handle.fileno()], timeout=deadline - time.monotonic()):
                data = handle.recv(65536, socket.MSG_DONTWAIT)
                if not data:
                    return
                left -= len(data)

        self._below(read_away)
        if left <= 0 or self.flooded:
            self.reset_at_close()

    def _below(self, action: Callable[[Any], None]) -> None:
        if self._is_given:
            return
        try:
            handle = waiting.duplicate(self._sock)
        except OSError:
            return  # the server has closed it
        try:
            action(handle)
        except OSError:
            pass  # the peer was faster
        finally:
            handle.close()


def _tune(sock: Any, send_timeout: float) -> None:
    if waiting.is_tls(sock):
        sock.settimeout(send_timeout)  # the deadline of writes, where nobody may go below the encryption
    options = [(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)]
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        options.append((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux: gives up on a host that vanished
            options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(send_timeout * 2000)))
    for level, name, value in options:
        sock.setsockopt(level, name, value)


class _Inbox:
    """Stands in for simple-websocket's list of received messages: bounded, and it wakes whoever waits."""

    def __init__(self, guard: GuardedSocket, wake: Callable[[], None]) -> None:
        self._guard, self._wake = guard, wake
        self._allowance = Allowance(BURST_MESSAGES, MESSAGES_PER_SECOND)
        self._messages: list[str | bytes] = []

    def append(self, message: str | bytes) -> None:
        self._guard.spend(self._allowance, 1)
        self._messages.append(message)
        self._wake()

    def take(self) -> list[str | bytes]:
        messages, self._messages = self._messages, []
        return messages

    def __len__(self) -> int:
        return len(self._messages)


class SafeWebSocket:
    """A connection after the handshake. One greenlet or thread writes and waits; a second one, which is
    simple-websocket's, reads."""

    def __init__(self, server: Any, max_message_bytes: int) -> None:
        self._server, self._guard = server, server.sock
        server.max_message_size = max_message_bytes
        self._inbox = _Inbox(self._guard, lambda: None)

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to read.

        :param wake: called when there is a message, and when the connection has ended.
        """
        self._inbox = self._server.input_buffer = _Inbox(self._guard, wake)
        self._guard.start(wake, lambda: self._server.ws.state is ConnectionState.OPEN)

    def hand_over(self, take: Callable[[Any], bool]) -> bool:
        """Instead of `start`: let somebody take the connection; return whether that was possible."""
        return bool(self._guard.give(take))

    @property
    def gone(self) -> bool:
        """Whether the connection is over. The reader may also have died of a bug, without a word."""
        return self._guard.reader_ended.is_set() or not self._server.thread.is_alive()

    @property
    def flooded(self) -> bool:
        """Whether the client was cut off because it sent too much."""
        return bool(self._guard.flooded)

    def messages(self) -> list[str | bytes]:
        """Return what the client sent since the last call."""
        return self._inbox.take()

    def write(self, frames: Iterable[bytes]) -> None:
        """Send prebuilt frames, small ones joined.

        :raises OSError: the client is gone, or took nothing until the deadline.
        """
        for data in joined(frames):
            self._guard.write(data)

    def rest(self, views: Iterable[View]) -> bool:
        """Nobody else takes a connection that the server keeps."""
        return False

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye and wait a moment for the answer. Closed already: does nothing."""
        try:
            self._guard.write(close_frame(code, reason), last=True)
        except OSError:
            return self.drop()
        if not self.gone:
            self._guard.reader_ended.wait(LINGER_SECONDS)
        self._guard.shutdown(socket.SHUT_WR)
        if self.gone:
            self._guard.drain(LINGER_SECONDS)
        return self.drop()

    def drop(self) -> None:
        """End the connection and the reader at once, without a word. Dropped already: does nothing."""
        self._server.connected = False  # else flask-sock says goodbye once more
        self._guard.start(lambda: None, lambda: False)
        self._guard.shutdown(socket.SHUT_RDWR)
        self._server.thread.join(LINGER_SECONDS)
