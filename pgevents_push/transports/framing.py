"""Framing: how a stream is put onto a connection that was handed over, and what is said on it besides; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pgevents_push.hub import CloseReason
from pgevents_push.transports import sse_format
from pgevents_push.transports.closing import CLOSINGS


class Wire(Protocol):
    """What a connection speaks. Equal ones, and only those, put the same bytes onto it."""

    def wrap(self, data: bytes) -> bytes:
        """Return frames as they go over the wire."""
        ...

    def beat(self, cursor: str | None) -> bytes:
        """Return a sign of life, which moves the client's cursor when there is one."""
        ...

    def goodbye(self, frames: bytes, reason: CloseReason, retry: int) -> bytes:
        """Return the last frames, and why nothing follows.

        :param retry: when the client is to come back, in milliseconds, where that can be said.
        """
        ...


@dataclass(frozen=True)
class Framing:
    """Of SSE, a body without a known length: in chunks (RFC 9112, 7.1), or plainly until the connection closes, as for
    a client that speaks HTTP/1.0."""

    chunked: bool

    def wrap(self, data: bytes) -> bytes:
        """Return some of the body as it goes over the wire."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked and data else data

    def last(self, data: bytes) -> bytes:
        """Return the rest of the body, and the end of it."""
        return self.wrap(data) + (b"0\r\n\r\n" if self.chunked else b"")

    def beat(self, cursor: str | None) -> bytes:
        """See Wire.beat."""
        return self.wrap(sse_format.COMMENT if cursor is None else sse_format.control("sync", {}, cursor))

    def goodbye(self, frames: bytes, reason: CloseReason, retry: int) -> bytes:
        """See Wire.goodbye."""
        bye = sse_format.control("bye", {"reason": CLOSINGS[reason].reason, "retry": retry})
        return self.last(frames + sse_format.retry(retry) + bye)


PLAIN, CHUNKED = Framing(False), Framing(True)
