"""The proxy between the browsers and the app: it also turns to another server, and answers in the app's place."""

from __future__ import annotations

import socket
from contextlib import suppress

from tests.fixtures.proxy import Proxy

ANSWER_SECONDS = 5.0


class Gateway(Proxy):
    """While `status` is set, each request is answered with it, as a proxy answers whose server is away."""

    status: int | None = None
    refused = 0  # how many were

    def turn_to(self, target: int) -> None:
        """Connect to this port from now on."""
        self._target = target

    def _connect(self, near: socket.socket) -> None:
        if self.status is None:
            super()._connect(near)
            return
        self.refused += 1
        with near, suppress(OSError):
            near.settimeout(ANSWER_SECONDS)
            while near.recv(65536).find(b"\r\n\r\n") < 0:
                pass
            near.sendall(f"HTTP/1.1 {self.status} Away\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
