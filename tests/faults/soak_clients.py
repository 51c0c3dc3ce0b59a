"""Clients of the soak: threads that connect, stall, vanish and resume from their last cursor, by either transport."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import websocket

from tests.fixtures.clients import CHANGES, SseReader

LOOK_SECONDS = 0.2
# What no client may ever get: it stands in a column that is not exposed.
CANARY = "canary"
Got = Callable[[str, str, Any], None]


class Stream(SseReader):
    """Server-Sent Events; hands every frame on with its cursor."""

    def __init__(self, port: int, tables: list[str], since: str, got: Got) -> None:
        self._hand_on = got
        super().__init__(port, tables, since)
        self.sock.settimeout(LOOK_SECONDS)

    def got(self, name: str, data: Any) -> None:
        self._hand_on(name, self.cursor, data)

    def look(self) -> bool:
        """Take what comes within LOOK_SECONDS; False when the stream has ended."""
        try:
            return self.read()
        except TimeoutError:
            return True

    def follow(self, stop: threading.Event) -> None:
        while not stop.is_set() and self.look():
            pass
        self.sock.close()


class Socket:
    """A WebSocket with one subscription."""

    def __init__(self, port: int, tables: list[str], since: str, got: Got) -> None:
        self._hand_on = got
        self._socket = websocket.create_connection(
            f"ws://127.0.0.1:{port}/pgevents/ws", timeout=30, skip_utf8_validation=True
        )
        self.sock: Any = self._socket.sock
        self._socket.send(json.dumps({"type": "subscribe", "ref": "1", "table": tables[0], "since": since or None}))
        self._socket.settimeout(LOOK_SECONDS)

    def look(self) -> bool:
        try:
            opcode, data = self._socket.recv_data()
        except websocket.WebSocketTimeoutException:
            return True
        except websocket.WebSocketException:
            return False
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return False
        message = json.loads(data)
        self._hand_on(message["type"], message.get("cursor", ""), message)
        return True


class Frame(NamedTuple):
    """What came, or "connect": then the cursor is the one that the client named."""

    name: str
    cursor: str
    data: Any = None

    @property
    def is_change(self) -> bool:
        return self.name in CHANGES


class Client:
    """One client over its whole life. It keeps all frames; what is wrong with them is the checker's to say.

    :param tables: one, then it changes between the transports; or several, then it has streams only.
    """

    def __init__(self, name: str, port: int, tables: list[str]) -> None:
        self.name, self.tables, self.port = name, tables, port
        self.cursor = ""
        self.frames: list[Frame] = []
        self.errors: list[str] = []
        self.counts: Counter[str] = Counter()
        self.calm = threading.Event()
        self.ready = threading.Event()
        self._chance = random.Random(name)
        self._kinds: list[Any] = [Stream, Socket] if len(tables) == 1 else [Stream]

    @property
    def changes(self) -> list[dict[str, Any]]:
        return [frame.data for frame in self.frames if frame.is_change]

    @property
    def gaps(self) -> list[str]:
        """Each reason, with what came before it: to find out why."""
        return [
            f"{gap.data['reason']} {gap.cursor} behind {[(f.name, f.cursor) for f in self.frames[max(0, at - 3) : at]]}"
            for at, gap in enumerate(self.frames)
            if gap.name == "gap"
        ]

    def has_lately(self, event_id: int) -> bool:
        return any(frame.is_change and frame.data["id"] == str(event_id) for frame in self.frames[-100:])

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._episode(stop)
            except (OSError, websocket.WebSocketException, AssertionError) as error:
                self.counts[f"{type(error).__name__}"] += 1
                if isinstance(error, AssertionError) and b" 503 " not in error.args[0]:
                    self.errors.append(str(error)[:200])
            time.sleep(self._chance.random() ** 3 * (0.2 if self.calm.is_set() else 1.0))

    def _episode(self, stop: threading.Event) -> None:
        """Be connected for a while, then leave in one of four ways; in the calm until the server hangs up."""
        kind = self._chance.choice(self._kinds)
        self.frames.append(Frame("connect", self.cursor))
        source = kind(self.port, self.tables, self.cursor, self._got)
        self.counts[kind.__name__] += 1
        until = time.monotonic() + self._chance.choice((0.05, 0.5, 2.0, 6.0))
        leave = self._chance.choice(("close", "reset", "stall", "stall and reset"))
        try:
            while not stop.is_set() and (self.calm.is_set() or time.monotonic() < until):
                if not source.look():
                    self.counts["server hung up"] += 1
                    return
            if not stop.is_set():
                self._leave(source, leave)
                self._settle(source, leave)
        finally:
            source.sock.close()

    def _leave(self, source: Any, how: str) -> None:
        self.counts[how] += 1
        if how.startswith("stall"):
            time.sleep(self._chance.uniform(0.3, 2.0))
        if how.endswith("reset"):
            source.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _settle(self, source: Any, how: str) -> None:
        if how == "stall":  # it reads on, what was kept for it comes in one piece
            with suppress(TimeoutError):
                for _ in range(5):
                    if not source.look():
                        return

    def _got(self, name: str, cursor: str, data: Any) -> None:
        if name in CHANGES:
            data = {**data, "type": name}
        elif name not in ("ready", "gap", "sync", "bye", "snapshot"):
            self.errors.append(f"{name}: {data}")
        if CANARY in str(data):
            self.errors.append(f"{name} shows what is hidden")
        if name != "sync":
            self.frames.append(Frame(name, cursor, data))
        self.cursor = cursor or self.cursor
        if name == "ready":
            self.ready.set()
