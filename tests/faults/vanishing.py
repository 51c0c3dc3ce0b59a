"""Vanishing: clients that get so far as chance wants, and are gone; some at a time, as fast as they are let in."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

AT_ONCE = 4
STREAM = b"GET /pgevents/stream?table=probe HTTP/1.1\r\nHost: x\r\n\r\n"
SOCKET = (
    b"GET /pgevents/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# A text, masked with four zeros.
_TEXT = json.dumps({"type": "subscribe", "ref": "1", "table": "probe"}).encode()
SUBSCRIBE = bytes([0x81, 0x80 | len(_TEXT), 0, 0, 0, 0]) + _TEXT
HOW_FAR = ("nothing", "half", "whole", "answered", "ready")
DELIVER_EACH_SECONDS = 0.1


class Vanishing:
    """:param requests: one of these is sent by each."""

    def __init__(self, port: int, requests: Sequence[bytes], seed: int) -> None:
        self._port, self._requests = port, requests
        self._chances = [random.Random(f"{seed} {number}") for number in range(AT_ONCE)]

    def come(self, count: int, deliver: Callable[[], float]) -> tuple[list[float], float]:
        """Let so many come.

        :param deliver: is asked meanwhile, again and again, how long a change takes.
        :returns: its answers, and the seconds until the last one was gone.
        """
        began, latencies = time.monotonic(), list[float]()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            running = [threads.submit(self._some, count // AT_ONCE, chance) for chance in self._chances]
            latencies.append(deliver())  # a hundred are gone sooner than the first turn ends
            while wait(running, DELIVER_EACH_SECONDS).not_done:
                latencies.append(deliver())
        for one in running:
            one.result()
        return latencies, time.monotonic() - began

    def _some(self, count: int, chance: random.Random) -> None:
        for _ in range(count):
            _vanish(self._port, chance.choice(self._requests), chance.choice(HOW_FAR), chance.random() < 0.5)


def _vanish(port: int, request: bytes, how: str, reset: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "nothing":
            sock.sendall(request[: len(request) // 2] if how == "half" else request)
        if how in ("answered", "ready"):
            got = _read_to(b"\r\n\r\n", sock)
            if how == "ready":
                if request == SOCKET:
                    sock.sendall(SUBSCRIBE)
                _read_to(b"ready", sock, got)


def _read_to(sign: bytes, sock: socket.socket, got: bytes = b"") -> bytes:
    while sign not in got:
        part = sock.recv(65536)
        assert part, got
        got += part
    return got
