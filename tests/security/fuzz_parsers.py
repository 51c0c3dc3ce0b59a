"""What reads hostile text without a server: only documented errors, and a bounded effort for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from pgevents_push.cursor import Cursor
from pgevents_push.errors import CursorError, RequestError, TargetError
from pgevents_push.event import CHANGE_TYPES, TableName
from pgevents_push.hub.filters import MAX_TERMS, parse_filters
from pgevents_push.transports.request import TableRequest, parse_snapshot, parse_stream
from pgevents_push.transports.ticket import Tickets
from pgevents_push.transports.ws_flood import FrameCounter
from pgevents_push.transports.ws_protocol import parse
from tests.fixtures.effort import MOST_TIMES, cpu_seconds
from tests.fixtures.views import COLUMNS
from tests.security.fuzz_inputs import KEY, PURPOSE, Inputs

TICKETS = Tickets([KEY], PURPOSE, "public", 32)
# What takes longer than this is looked at again. Meant for all; how long they took is printed.
MEANT_SECONDS = 0.001
# An input may have several filters, and is looked at five times at most.
SOME = 2.5
ORDINARY = f"and=({','.join(['id.eq.1'] * MAX_TERMS)})"
Try = Callable[[], object]


@dataclass
class Cost:
    """What one parser took, in seconds of CPU."""

    taken: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ordered = sorted(self.taken)
        median, most = ordered[len(ordered) // 2] * 1e6, ordered[-1] * 1e6
        return f"{len(ordered)} inputs, {median:.0f} us in the middle, {most:.0f} us at most"


def _tries(inputs: Inputs) -> dict[str, Try]:
    """One input for each parser."""
    query, text, data = inputs.query(), inputs.value("lastEventId"), inputs.frame()
    filter_ = inputs.value("filter")
    asked = TableRequest(inputs.value("table"), frozenset(CHANGE_TYPES), None)
    table, message, ticket = inputs.value("table"), inputs.message(), inputs.value("ticket")
    return {
        "query": lambda: parse_stream(query, text, 32),
        "snapshot": lambda: parse_snapshot(query),
        "cursor": lambda: Cursor.parse(text),
        "table": lambda: TableName.parse(table),
        "filter": lambda: parse_filters([filter_], COLUMNS),
        "message": lambda: parse(message),
        "frames": lambda: FrameCounter().feed(data),
        "ticket": lambda: TICKETS.read(ticket).check(asked),
    }


def fuzz_parsers(seed: int, seconds: float) -> dict[str, Cost]:
    """Feed the parsers for so long; each one's cost and problems."""
    inputs, costs = Inputs(seed), dict[str, Cost]()
    most = SOME * MOST_TIMES * cpu_seconds(lambda: parse_filters([ORDINARY], COLUMNS))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for name, attempt in _tries(inputs).items():
            _measure(costs.setdefault(name, Cost()), name, attempt, most)
    return costs


def _measure(cost: Cost, name: str, attempt: Try, most: float) -> None:
    def documented() -> None:
        with suppress(RequestError, CursorError, TargetError):
            attempt()

    try:
        taken = cpu_seconds(documented, 1)
    except Exception as error:  # none is documented that gets as far as this
        cost.problems.append(f"{name}: {type(error).__name__}: {error!r:.200}")
        return
    if taken > MEANT_SECONDS:  # perhaps the garbage collector came along: a slow input is slow each time
        taken = min(taken, cpu_seconds(documented, 4))
    cost.taken.append(taken)
    if taken > most:
        cost.problems.append(f"{name}: {taken * 1000:.1f} ms")
