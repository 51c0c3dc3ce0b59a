"""WebSockets: the same as fan-out and crowds, for sockets that are handed over and for those that the server keeps.

The floor is that of fan-out: the C server's event streams, with frames of the same size, at our pace.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from typing import Any

from tests.bench.deliveries import Run, middle
from tests.bench.fanout import LOADS, pace_of, run_floor, run_product
from tests.bench.native import Counted, floor, loading
from tests.bench.printing import Row
from tests.bench.product import TARGET as EVENTS
from tests.bench.product import Product, product

TARGET, HOW = "/pgevents/ws", "ws"
# SSE, handed over as well, for comparison.
SIZES = {"sse": (500, 1000), "ws": (100, 500, 1000, 5000), "kept": (100, 500)}
NAMES = {"sse": "SSE", "ws": "WebSocket", "kept": "WebSocket kept by the server"}
IDLE = {True: (1000, 10_000), False: (1000,)}
LEAVING, SLOW = 500, 20
REPEATS = 3
SECONDS = 4.0


def measure() -> list[Row]:
    return [*_idle(True), *_idle(False), *_fanout("sse"), *_fanout("ws"), *_fanout("kept"), *_leaving(), *_stalled()]


def _named(handed: bool) -> str:
    return "handed over" if handed else "kept"


def _idle(handed: bool) -> list[Row]:
    rows = []
    for clients in IDLE[handed]:
        with product(handover=handed) as running:
            with loading(running.port, 100, TARGET, HOW) as load:  # warm up
                running.write()
                load.until(1)
            running.settle()
            before = running.rss
            with loading(running.port, clients, TARGET, HOW) as load:
                running.settle(clients)
                at_once = running.rss - before
                time.sleep(40)  # two heartbeats; who has been silent for so long is remembered least
                grown = running.rss - before
                load.begin(1)
                running.write()
                load.hear()
                counted = load.end()
                assert counted.fewest == counted.most == 1
        how = f"RSS, {clients:,} clients, 40 s after they came; at once {at_once / clients / 1000:.2f} kB"
        rows.append(
            Row(f"memory per idle socket, {_named(handed)}", f"{grown / clients / 1000:.2f} kB", "<= 5 kB", how)
        )
        rows.append(Row("connecting and subscribing", f"{clients / load.opened.seconds:,.0f}/s", "", f"{clients:,}"))
    return rows


def _fanout(what: str) -> list[Row]:
    runs: dict[tuple[int, str], list[tuple[Run, Run]]] = {}
    way = (EVENTS,) if what == "sse" else (TARGET, HOW)
    with product(handover=what != "kept") as running:
        for _ in range(REPEATS):
            for clients in SIZES[what]:
                with loading(running.port, clients, *way) as load:
                    ours = {kind.name: run_product(running, load, kind) for kind in LOADS[:2]}
                running.settle()
                with floor() as server, loading(server.port, clients, "/") as load:
                    for kind in LOADS[:2]:
                        paced = run_floor(server, load, kind, *pace_of(ours[kind.name], clients))
                        pair = ours[kind.name], paced
                        runs.setdefault((clients, kind.name), []).append(pair)
    return [_share(NAMES[what], *key, pairs) for key, pairs in runs.items()]


def _share(what: str, clients: int, kind: str, pairs: list[tuple[Run, Run]]) -> Row:
    shares = [theirs.cpu / ours.cpu for ours, theirs in pairs]
    ours, theirs = (middle([pair[n] for pair in pairs]) for n in (0, 1))
    how = (
        f"{ours.cpu * 1e6:.2f} us a delivery, floor {theirs.cpu * 1e6:.2f} us; {REPEATS} turns, shares "
        f"{min(shares):.2f} to {max(shares):.2f}; {ours.joined:.1f} a read ({theirs.joined:.1f}), "
        f"{ours.frame:.0f} bytes; p99 {ours.p99:.1f} ms"
    )
    what = f"{what}, {clients:,} clients, {kind}: share of the C floor"
    return Row(what, f"{statistics.median(shares):.2f}", ">= 0.70", how)


def _leaving() -> list[Row]:
    took = []
    with product() as running:
        for _ in range(REPEATS):
            with loading(running.port, LEAVING, TARGET, HOW) as load:
                running.settle(LEAVING)
                load.drop()
                took.append(running.settle())
    return [Row("disconnects of sockets noticed", f"{statistics.median(took):.3f} s", "< 0.2 s", f"{LEAVING} at once")]


def _stalled() -> list[Row]:
    alone, beside = [], []
    with product(max_queue_bytes=1_000_000) as running:
        for _ in range(REPEATS):
            alone.append(_with_slow(running, 0).p99)
            beside.append(_with_slow(running, SLOW).p99)
    without, with_them = statistics.median(alone), statistics.median(beside)
    how = f"p99 {without:.1f} ms without, {with_them:.1f} ms with; 50 changes/s of 2 kB"
    what = f"{SLOW} stalled sockets among {LEAVING}: p99 of the others"
    return [Row(what, f"{with_them / without:.2f}x", "<= 1.1x", how)]


def _with_slow(running: Product, slow: int) -> Counted:
    with ExitStack() as stack:
        crowd: Any = stack.enter_context(loading(running.port, LEAVING, TARGET, HOW))
        if slow:
            stack.enter_context(loading(running.port, slow, TARGET, "ws-stall"))
        running.settle(LEAVING + slow)
        crowd.begin()
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < SECONDS:
            running.write(1, size=2000)
            sent += 1
            time.sleep(max(0.0, began + sent / 50 - time.monotonic()))
        crowd.until(sent)
        counted: Counted = crowd.end()
    running.settle()
    return counted
