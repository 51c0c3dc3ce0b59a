"""Wake: what interrupts a wait for a socket."""

from __future__ import annotations

import os


class Wake:
    """A flag that wakes a waiter in `wait_any`: a pipe, so that it is waited for beside sockets."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def set(self) -> None:
        try:
            os.write(self._write, b"!")
        except (BlockingIOError, OSError):
            pass  # full: it is set already; closed: nobody waits

    def clear(self) -> None:
        try:
            while os.read(self._read, 512):
                pass
        except (BlockingIOError, OSError):
            pass

    def close(self) -> None:
        # First forgotten, then closed: the number may soon be somebody else's file.
        fds, self._read, self._write = (self._read, self._write), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
