"""The only file that names gevent: spawning, sleeping and waiting, in greenlets or in threads.

Locks, conditions and queues need no wrapper: those of `threading` are made cooperative by gevent's
`monkey.patch_all()`, if they are created after it. So nothing here, and nothing above, creates one at import.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Protocol, TypeVar, cast

import gevent
import gevent.hub
import gevent.socket
from gevent import monkey
from gevent.hub import Waiter

from pgevents_push.errors import ConnectionLost

T = TypeVar("T")

# What libev and libuv call these.
_READABLE, _WRITABLE = 1, 2


class Task(Protocol):
    """A running greenlet or thread."""

    def join(self, timeout: float | None = None) -> Any: ...


def cooperative() -> bool:
    """Whether this process runs on gevent: its sockets and threads are patched."""
    return bool(monkey.is_module_patched("socket") and monkey.is_module_patched("threading"))


def half_patched() -> bool:
    """Whether gevent patched sockets but not threads, or the other way round: nothing works then."""
    return bool(monkey.is_module_patched("socket") != monkey.is_module_patched("threading"))


def spawn(function: Callable[..., object], *args: object, name: str) -> Task:
    """Run a function in a greenlet or, in a process without gevent, in a daemon thread."""
    if cooperative():
        greenlet = gevent.spawn(function, *args)
        greenlet.name = name
        return greenlet
    thread = threading.Thread(target=function, args=args, name=name, daemon=True)
    thread.start()
    return thread


def turn() -> None:
    """Let all others run before this goes on. It takes 3 us; a `sleep(0)` would come back before gevent has looked at
    its sockets and timers, which it does once in 5 ms of such turns."""
    sleep(1e-6 if cooperative() else 0)


def sleep(seconds: float) -> None:
    """Sleep without stopping other greenlets."""
    if cooperative():
        gevent.sleep(seconds)
    else:
        time.sleep(seconds)


def run_blocking(function: Callable[..., T], *args: Any) -> T:
    """Run a function that blocks (plain psycopg2) without stopping the hub: in a real thread under gevent."""
    if not cooperative():
        return function(*args)

    def attempt() -> tuple[T | None, Exception | None]:
        try:
            return function(*args), None
        except Exception as error:  # gevent's pool would print it, although it is raised here
            return None, error

    result, error = gevent.get_hub().threadpool.apply(attempt)
    if error is not None:
        raise error
    return cast(T, result)


def wait_any(read: Sequence[int], write: Sequence[int] = (), timeout: float | None = None) -> set[int]:
    """Wait until one of the file descriptors is ready; return which, none after the timeout (seconds). Under gevent
    another that is ready as well is told of only the next time; one that is closed is ready."""
    if cooperative():
        return _wait_greenlet([*((fd, _READABLE) for fd in read), *((fd, _WRITABLE) for fd in write)], timeout)
    poller = select.poll()
    for fd in read:
        poller.register(fd, select.POLLIN)
    for fd in write:
        poller.register(fd, select.POLLOUT)
    milliseconds = None if timeout is None else max(0, round(timeout * 1000))
    return {fd for fd, _ in poller.poll(milliseconds)}


def _wait_greenlet(wanted: Sequence[tuple[int, int]], timeout: float | None) -> set[int]:
    """Wait with gevent's own watchers: its `select.poll` takes 9 us instead of 2."""
    hub = gevent.get_hub()
    loop: Any = hub.loop
    waiter: Waiter[int | None] = Waiter(hub)
    watchers: list[Any] = []
    try:
        for fd, events in wanted:
            watchers.append(watcher := loop.io(fd, events))
            watcher.priority = loop.MAXPRI  # before the timer, where both are due
            watcher.start(waiter.switch, fd)
        if timeout is not None:
            watchers.append(timer := loop.timer(max(0.0, timeout)))
            timer.start(waiter.switch, None)
        ready = waiter.get()
        return set() if ready is None else {ready}
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return {fd}
    finally:
        for watcher in watchers:
            watcher.stop()
            watcher.close()


class Watch:
    """Descriptors that one greenlet or thread waits for again and again, to read from them. Under gevent that takes
    half of what `wait_any` takes, and no system calls: they are always watched, but what is readable while nobody
    waits for it only from the next wait on. Close it before them."""

    def __init__(self, *fds: int) -> None:
        self._waiter: Waiter[int | None] | None = None
        self._wanted: Sequence[int] = ()
        self._watchers: dict[int, Any] = {}
        if cooperative():
            self._hub = gevent.get_hub()
            self._loop: Any = cast(Any, self._hub.loop)
            for fd in fds:
                self._watchers[fd] = watcher = self._loop.io(fd, _READABLE)
                watcher.priority = self._loop.MAXPRI  # before the timer, where both are due

    def wait(self, wanted: Sequence[int], timeout: float) -> set[int]:
        """See `wait_any`."""
        if not self._watchers or gevent.get_hub() is not self._hub:  # that of another thread
            return wait_any(wanted, (), timeout)
        for fd in wanted:
            if not (watcher := self._watchers[fd]).active:
                watcher.start(self._notice, fd)
        waiter: Waiter[int | None] = Waiter(self._hub)
        self._wanted, self._waiter = wanted, waiter
        timer = self._loop.timer(max(0.0, timeout))
        timer.start(waiter.switch, None, update=True)  # the loop's clock stands while we work
        try:
            ready = waiter.get()
            return set() if ready is None else {ready}
        finally:
            self._waiter = None
            timer.stop()
            timer.close()

    def _notice(self, fd: int) -> None:
        waiter = self._waiter
        if waiter is not None and fd in self._wanted:
            self._waiter = None
            waiter.switch(fd)
        else:
            self._watchers[fd].stop()

    def close(self) -> None:
        """Watch nothing any more. Closed already: does nothing."""
        while self._watchers:
            _, watcher = self._watchers.popitem()
            watcher.stop()
            watcher.close()


def raw_socket(sock: Any) -> Any:
    """The plain socket below a gevent socket: its calls return at once instead of waiting."""
    return getattr(sock, "_sock", sock)


def is_tls(sock: Any) -> bool:
    """Whether the bytes of this socket are encrypted in this process, so that nobody may go below it."""
    return isinstance(sock, ssl.SSLSocket) or type(sock).__name__ == "SSLSocket"


def send_all(sock: Any, data: bytes, timeout: float) -> None:
    """Send all the bytes, or fail.

    :raises ConnectionLost: the peer took nothing for `timeout` seconds.
    :raises OSError: the socket is closed.
    """
    if is_tls(sock):
        sock.sendall(data)  # no way below TLS: the caller's cap on queued bytes is the deadline then
        return
    raw, rest = raw_socket(sock), memoryview(data)
    while rest:
        try:
            rest = rest[raw.send(rest, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            if not wait_any((), (raw.fileno(),), timeout):
                raise ConnectionLost(f"the client took nothing for {timeout:g} s") from None


def hang_up(sock: Any) -> None:
    """Hear no more of the peer, so that the server closes the connection as soon as its answer is sent. A kept-alive
    connection would otherwise keep a stopping worker alive for its timeout (gunicorn: 2 s)."""
    if not is_tls(sock):
        try:
            raw_socket(sock).shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the peer was quicker


def when_readable(fd: int, callback: Callable[[], None]) -> Callable[[], None]:
    """Call back under gevent as long as a descriptor can be read; return how to stop, which may be called twice. The
    callback must not wait."""
    watcher = gevent.get_hub().loop.io(fd, _READABLE)
    watcher.start(callback)

    def stop() -> None:
        watcher.stop()
        watcher.close()

    return stop


def call_after(seconds: float, callback: Callable[[], object]) -> None:
    """Call back once under gevent. The callback must not wait. Cheaper than a time limit for each of many waits."""
    timer: Any = gevent.get_hub().loop.timer(seconds, ref=False)

    def ring() -> None:
        timer.close()
        callback()

    timer.start(ring)


def epoll() -> select.epoll:
    """Return an epoll that never waits for others: gevent hides it. Watch its descriptor with `when_readable`."""
    return cast("select.epoll", monkey.get_original("select", "epoll")())


def can_hand_over() -> bool:
    """Whether a descriptor may become another file behind gevent's back. libev, its loop on Linux, compares and asks
    the kernel anew; libuv would turn in circles as long as the old one can be read."""
    on_libev = cooperative() and type(gevent.get_hub().loop).__module__.startswith("gevent.libev")
    return on_libev and sys.platform == "linux"


def is_plain(sock: Any) -> bool:
    """Whether this is gevent's own socket and no other, so its descriptor is the connection: no TLS, no wrapper."""
    return type(sock) is gevent.socket.socket


def frames() -> Iterator[FrameType]:
    """Yield the innermost frame of each thread, and of the main greenlet, which gevent may have parked."""
    yield from sys._current_frames().values()
    if cooperative():
        main = gevent.hub.get_hub().parent
        if main is not None and main.gr_frame is not None:
            yield main.gr_frame


def duplicate(sock: Any) -> Any:
    """A second handle of the same connection that outlives the server's own."""
    return _socket.socket(fileno=os.dup(sock.fileno()))
