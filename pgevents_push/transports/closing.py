"""Why streams end, named once: the `bye` of SSE and the close code of WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgevents_push.chance import chance
from pgevents_push.hub import CloseReason


@dataclass(frozen=True)
class Closing:
    """How an end is told: `reason` in SSE's `bye`, `code` of the WebSocket close (RFC 6455, 7.4, and IANA's
    registry for 1012), and whether the client should come back at once rather than after its usual delay."""

    reason: str
    code: int


CLOSINGS: dict[CloseReason, Closing] = {
    "overflow": Closing("slow", 4408),
    "departed": Closing("departed", 1001),
    "shutdown": Closing("shutdown", 1012),
    "failed": Closing("failed", 1011),
    "lost": Closing("lost", 1012),
    "schema": Closing("schema", 1012),
    "revoked": Closing("revoked", 4403),
    "lifetime": Closing("lifetime", 1012),
    "uncaptured": Closing("uncaptured", 1012),
}


def as_number(seconds: float) -> int | float:
    """15 rather than 15.0, for people who read the stream."""
    return int(seconds) if seconds == int(seconds) else seconds


def jittered_milliseconds(seconds: float, chance: Callable[[], float] = chance) -> int:
    """Return a reconnect delay between half and one and a half of `seconds`: a thousand clients that lost one
    server must not come back in the same instant."""
    return round(seconds * 1000 * (0.5 + chance()))
