"""Departures: who watches a silent socket for its peer's leaving; under gevent its hub, else one thread for all."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Any

from pgevents_push.waiting import cooperative, is_tls, raw_socket, spawn, when_readable


def peer_gone(sock: Any) -> bool | None:
    """Look whether the peer closed: True, False (nothing to read), or None (it sent something: cannot tell)."""
    try:
        data = raw_socket(sock).recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return None if data else True


def watch_departure(sock: Any, callback: Callable[[], None]) -> Callable[[], None]:
    """Call back once when the peer of an otherwise silent socket leaves; return how to stop watching.

    A stream that only writes learns of a closed peer with its second write at the earliest; this tells at once.
    """
    if is_tls(sock):
        return lambda: None
    return _watch_greenlet(sock, callback) if cooperative() else _departures().watch(sock, callback)


def _watch_greenlet(sock: Any, callback: Callable[[], None]) -> Callable[[], None]:
    def look() -> None:
        gone = peer_gone(sock)
        if gone is False:
            return
        stop()
        if gone:
            callback()

    stop = when_readable(raw_socket(sock).fileno(), look)
    return stop


class _Departures:
    """One thread that watches the sockets of all streams in a process without gevent."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Any, Callable[[], None]]] = {}
        spawn(self._run, name="pgevents-departures")

    def watch(self, sock: Any, callback: Callable[[], None]) -> Callable[[], None]:
        fd = sock.fileno()
        self._watched[fd] = (sock, callback)
        # One-shot: a socket with unread bytes would otherwise wake the thread for ever.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLONESHOT)

        def stop() -> None:
            if self._watched.pop(fd, None) is not None:
                try:
                    self._epoll.unregister(fd)
                except (OSError, ValueError):
                    pass  # closing the socket has unregistered it already

        return stop

    def _run(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                sock, callback = self._watched.get(fd, (None, None))
                if sock is not None and callback is not None and peer_gone(sock):
                    callback()


_departures_of_process: _Departures | None = None


def _departures() -> _Departures:
    global _departures_of_process
    if _departures_of_process is None or _departures_of_process.pid != os.getpid():
        _departures_of_process = _Departures()
    return _departures_of_process
