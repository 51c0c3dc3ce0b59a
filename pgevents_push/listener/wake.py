"""Wake: what interrupts a wait for a socket."""

from __future__ import annotations

import os
import threading


class Wake:
    """A flag that wakes a waiter in `wait_any`: a pipe, so that it is waited for beside sockets.

    Others may call while it is closed, also from a signal handler: by then its number may be somebody else's file.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def set(self) -> None:
        with self._lock:
            try:
                os.write(self._write, b"!")
            except (BlockingIOError, OSError):
                pass  # full: it is set already; closed: nobody waits

    def clear(self) -> None:
        with self._lock:
            try:
                while os.read(self._read, 512):
                    pass
            except (BlockingIOError, OSError):
                pass

    def close(self) -> None:
        with self._lock:
            # First forgotten, then closed: a signal handler may come in between.
            fds, self._read, self._write = (self._read, self._write), -1, -1
            for fd in fds:
                if fd >= 0:
                    os.close(fd)
