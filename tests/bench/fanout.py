"""Fan-out: events to many SSE clients, the whole product on one core, as a share of a C epoll server in the same run.

Three loads. "one by one": the next change is committed when all clients have got the last; nothing can be joined, and
the way through PostgreSQL, the log and the listener is paid for each of them. "eight" and "a hundred": transactions of
so many rows, two of them on the way; the floor joins as many. It runs twice: as fast as it can, without waiting for its
clients, which then read many frames at once, and are woken up once for these; and at our pace, where each event finds
the caches and the clients as cold as ours. Sizes and servers take turns; a share is made of two runs that follow each
other, and the median of the shares is printed. CPU per delivery is what the server alone used; where
the clients or the machine were the bottleneck, and not the server, the share of the rates says nothing and is left out.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from tests.bench.deliveries import Run, counted, in_window, middle
from tests.bench.native import Floor, Load, floor, loading
from tests.bench.pinning import POSSIBLE
from tests.bench.printing import Row
from tests.bench.product import TARGET, Product, product

SIZES = (100, 1000, 5000, 10_000)
REPEATS = 3
SECONDS = 2.0
GOALS = {100: ">= 0.80", 1000: ">= 0.75", 5000: ">= 0.65", 10_000: ">= 0.65"}
# A server that got less of its core than this was not what the others waited for.
BUSY = 0.85


@dataclass(frozen=True)
class Kind:
    """How events come: so many in a transaction, and so many transactions on the way at once."""

    name: str
    rows: int
    window: int


ONE_BY_ONE = Kind("one by one", 1, 1)
LOADS = (ONE_BY_ONE, Kind("eight", 8, 2), Kind("a hundred", 100, 2))


def measure() -> list[Row]:
    runs: dict[tuple[int, str], list[tuple[Run, Run, Run]]] = {}
    with product() as running:
        for _ in range(REPEATS):
            for clients in SIZES:
                for kind, turn in _take_turns(running, clients).items():
                    runs.setdefault((clients, kind), []).append(turn)
    return [row for (clients, kind), turns in runs.items() for row in _rows(clients, kind, turns)]


def _take_turns(running: Product, clients: int) -> dict[str, tuple[Run, Run, Run]]:
    """Return what we did, what the floor did, and what it did at our pace."""
    with loading(running.port, clients, TARGET) as load:
        ours = {kind.name: run_product(running, load, kind) for kind in LOADS}
    running.settle()
    with floor() as server, loading(server.port, clients, "/") as load:
        theirs = {kind.name: run_floor(server, load, kind, ours[kind.name].frame, 0) for kind in LOADS}
        paced = {kind.name: run_floor(server, load, kind, *pace_of(ours[kind.name], clients)) for kind in LOADS}
    return {name: (run, theirs[name], paced[name]) for name, run in ours.items()}


def pace_of(run: Run, clients: int) -> tuple[float, float]:
    return run.frame, run.rate / clients


def run_floor(server: Floor, load: Load, kind: Kind, frame: float, rate: float) -> Run:
    def run() -> float:
        answer = server.run(SECONDS, kind.rows, rate, round(frame))
        load.until(answer["events"])
        return float(answer["cpu"])

    return counted(load, run)


def run_product(running: Product, load: Load, kind: Kind, table: str = "ticks") -> Run:
    def run() -> float:
        used = running.cpu
        in_window(load, lambda: running.write(kind.rows, table), kind.window, SECONDS)
        return running.cpu - used

    return counted(load, run, kind.rows)


def _rows(clients: int, kind: str, turns: list[tuple[Run, Run, Run]]) -> list[Row]:
    what = f"fan-out to {clients:,}, {kind}"
    shares = [theirs.cpu / ours.cpu for ours, theirs, _ in turns]
    at_our_pace = [paced.cpu / ours.cpu for ours, _, paced in turns]
    ours, theirs, paced = (middle([turn[n] for turn in turns]) for n in (0, 1, 2))
    how = f"{REPEATS} turns of {SECONDS:g} s, shares {min(shares):.2f} to {max(shares):.2f}"
    pace = f"shares {min(at_our_pace):.2f} to {max(at_our_pace):.2f}, {paced.joined:.1f} a read"
    details = (
        f"server {ours.busy:.2f} of a core (floor {theirs.busy:.2f}), "
        f"clients {ours.client_busy:.2f} ({theirs.client_busy:.2f}), "
        f"{ours.joined:.1f} a read ({theirs.joined:.1f}), {ours.frame:.0f} bytes a frame"
    )
    floors = f"{theirs.cpu * 1e6:.2f}, at our pace {paced.cpu * 1e6:.2f}"
    rates = f"{ours.rate:,.0f}/s, floor {theirs.rate:,.0f}/s"
    if POSSIBLE and min(ours.busy, theirs.busy) >= BUSY:
        rates += f": {ours.rate / theirs.rate:.2f}"
    return [
        Row(f"{what}: share of the C floor", f"{statistics.median(shares):.2f}", GOALS[clients], f"CPU; {how}"),
        Row(f"{what}: the same at our pace", f"{statistics.median(at_our_pace):.2f}", "", f"CPU; {pace}"),
        Row(f"{what}: CPU per delivery", f"{ours.cpu * 1e6:.2f} us, floor {floors} us", "", details),
        Row(f"{what}: deliveries", rates, "", f"p50 {ours.p50:.1f} ms, p99 {ours.p99:.1f} ms"),
    ]
