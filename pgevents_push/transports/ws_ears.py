"""What a client says over a WebSocket: bytes in, messages and what is answered to frames out; within limits. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from pgevents_push.transports.ws_flood import (
    BURST_FRAMES,
    BURST_IN_MAX_MESSAGES,
    BURST_MESSAGES,
    FORGOTTEN_SECONDS,
    FRAMES_PER_SECOND,
    MAX_MESSAGES_PER_SECOND,
    MESSAGES_PER_SECOND,
    Allowance,
    FrameCounter,
)
from pgevents_push.transports.ws_protocol import CloseCode, close_frame


class Heard(NamedTuple):
    """What was in some bytes.

    :param messages: complete ones.
    :param answer: frames that answer frames: pongs.
    :param goodbye: the close frame that ends the connection now; None: it goes on.
    """

    messages: list[str | bytes]
    answer: bytes = b""
    goodbye: bytes | None = None


LEFT = Heard([], goodbye=close_frame(CloseCode.GONE))
FLOOD = Heard([], goodbye=close_frame(CloseCode.POLICY, "too many messages"))


class Ears:
    """Reads one connection. Who is between two messages costs no parser, and who has long been silent not even this."""

    __slots__ = ("_at", "_bytes", "_clock", "_counter", "_frames", "_length", "_messages", "_most", "_parser", "_parts")

    def __init__(self, max_message_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        burst, rate = BURST_IN_MAX_MESSAGES * max_message_bytes, MAX_MESSAGES_PER_SECOND * max_message_bytes
        self._bytes = Allowance(burst, rate, clock)
        self._frames = Allowance(BURST_FRAMES, FRAMES_PER_SECOND, clock)
        self._messages = Allowance(BURST_MESSAGES, MESSAGES_PER_SECOND, clock)
        self._counter = FrameCounter()
        self._most, self._clock, self._at = max_message_bytes, clock, clock()
        self._parser: Connection | None = None
        self._parts: list[str | bytes] = []  # of a message that is not complete
        self._length = 0

    def hear(self, data: bytes) -> Heard:
        """Read what the client sent. Not to be called again after a goodbye."""
        self._at = self._clock()
        if not self._bytes.take(len(data)) or not self._frames.take(self._counter.feed(data)):
            return FLOOD
        parser = self._parser = self._parser or Connection(ConnectionType.SERVER)
        try:
            parser.receive_data(data)
            heard = self._understand(parser, parser.events())
        except LocalProtocolError:  # simple-websocket falls silent as well
            return Heard([], goodbye=b"")
        if self._counter.is_between and not self._parts:
            self._parser = None
        return heard

    def _understand(self, parser: Connection, events: Iterable[Event]) -> Heard:
        messages: list[str | bytes] = []
        answers: list[bytes] = []
        for event in events:
            if isinstance(event, Ping):
                answers.append(parser.send(event.response()))
            elif isinstance(event, CloseConnection):  # a frame that may not be, as well
                return Heard(messages, b"".join(answers), parser.send(event.response()))
            elif isinstance(event, Message):
                self._length += len(event.data)
                if self._length > self._most:
                    too_big = close_frame(CloseReason.MESSAGE_TOO_BIG, "Message is too big")
                    return Heard(messages, b"".join(answers), too_big)
                self._parts.append(event.data)
                if event.message_finished:
                    messages.append(self._joined())
                    if not self._messages.take(1):
                        return FLOOD
        return Heard(messages, b"".join(answers))

    def _joined(self) -> str | bytes:
        parts, self._parts, self._length = self._parts, [], 0
        if len(parts) == 1:
            return bytes(parts[0]) if isinstance(parts[0], bytearray) else parts[0]
        if isinstance(parts[0], str):
            return "".join(str(part) for part in parts)
        return b"".join(part for part in parts if not isinstance(part, str))

    def is_forgettable(self, now: float) -> bool:
        """Whether a new one would know as much: the client has been silent for long, and not in the middle."""
        return self._parser is None and now - self._at > FORGOTTEN_SECONDS
