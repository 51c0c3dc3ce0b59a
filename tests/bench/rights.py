"""Rights: what a delivery costs when each client has rights of its own, beside clients that all see the same."""

from __future__ import annotations

import statistics

from tests.bench.deliveries import Run, middle
from tests.bench.fanout import ONE_BY_ONE, SECONDS, run_product
from tests.bench.native import loading
from tests.bench.printing import Row
from tests.bench.product import Product, product

CLIENTS = 300
REPEATS = 5
# Everybody sees each change of both; of "shared" because a condition of their own says so.
TABLES = ("ticks", "shared")


def measure() -> list[Row]:
    turns: list[tuple[Run, Run]] = []
    with product() as running:
        for _ in range(REPEATS):
            same, own = (_one_by_one(running, table) for table in TABLES)
            turns.append((same, own))
    ratios = sorted(own.cpu / same.cpu for same, own in turns)
    costs = " and ".join(f"{middle([turn[n] for turn in turns]).cpu * 1e6:.1f}" for n in (0, 1))
    how = f"CPU per delivery {costs} us, {REPEATS} turns of {SECONDS:g} s, ratios {ratios[0]:.2f} to {ratios[-1]:.2f}"
    what = f"{CLIENTS} clients with rights of their own who all see each change, beside {CLIENTS} with one view"
    return [Row(what, f"{statistics.median(ratios):.2f}x", "aim 1.3x", how)]


def _one_by_one(running: Product, table: str) -> Run:
    with loading(running.port, CLIENTS, f"/pgevents/stream?table={table}") as load:
        found = run_product(running, load, ONE_BY_ONE, table)
    running.settle()
    return found
