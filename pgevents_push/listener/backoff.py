"""How long to wait before the next attempt: full jitter under a doubling cap; pure."""

from __future__ import annotations

from collections.abc import Callable

from pgevents_push.chance import chance

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 5.0


def delay(attempt: int, chance: Callable[[], float] = chance) -> float:
    """Return the seconds before attempt number `attempt` (from 1). Full jitter, so that a hundred processes
    do not come back to a restarted server in step; the cap keeps recovery quick."""
    return chance() * min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt, 16))
