"""Deliveries: what a server did to its clients in one run, as the clients counted it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.native import Load


@dataclass(frozen=True)
class Run:
    """Rates a second; the server's CPU seconds for one delivery; delays in milliseconds; busy is a share of a core."""

    rate: float
    cpu: float
    busy: float
    client_busy: float
    frame: float
    joined: float
    p50: float
    p99: float


def counted(load: Load, serve: Callable[[], float], every: int = 0) -> Run:
    """Count while something serves.

    :param serve: returns the CPU seconds that the server used.
    :param every: see `Load.begin`.
    """
    load.begin(every)
    cpu = serve()
    seen = load.end()
    assert seen.fewest == seen.most > 0, (seen, load.clients)
    return Run(
        rate=seen.frames / seen.seconds,
        cpu=cpu / seen.frames,
        busy=cpu / seen.seconds,
        client_busy=seen.busy,
        frame=seen.bytes / seen.frames,
        joined=seen.frames / seen.reads,
        p50=seen.p50,
        p99=seen.p99,
    )


def in_window(load: Load, publish: Callable[[], None], window: int, seconds: float) -> None:
    """Publish for some seconds, with so many events on the way; return when all clients have got all of them.

    The load must be counting with `every` the frames that one publishing makes.
    """
    ends = time.monotonic() + seconds
    for _ in range(window):
        publish()
    while time.monotonic() < ends:
        load.hear()
        publish()
    for _ in range(window):
        load.hear()


def middle(runs: Sequence[Run]) -> Run:
    """The run with the median of the CPU."""
    return sorted(runs, key=lambda run: run.cpu)[len(runs) // 2]
