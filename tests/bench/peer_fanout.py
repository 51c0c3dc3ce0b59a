"""Fan-out beside peers: the same events to as many clients by the product, whole, and by programs that do nothing else.

Each peer has turns with the product, one after the other, on the same core; a ratio is made of two such runs, and the
median of the ratios is printed. One event at a time, and eight on the way.
"""

from __future__ import annotations

import json
import statistics
import time

from tests.bench.deliveries import Run, counted, in_window, middle
from tests.bench.native import Load, loading
from tests.bench.peer_servers import KINDS, Kind, Peer
from tests.bench.printing import Row
from tests.bench.product import TARGET, Product, product

CLIENTS = 1000
WINDOWS = (1, 8)
REPEATS = 3
SECONDS = 2.0
GOALS = {"nchan EventSource": ">= 1.6x", "naive Flask, gunicorn gevent": ">= 6x"}
# With what the product says of a change (its key, its table, its time) a frame is about as long.
_BODY = "x" * 300

Pairs = dict[int, list[tuple[Run, Run]]]


def measure() -> list[Row]:
    there = {kind: Pairs() for kind in KINDS if not kind.lacks()}
    with product() as running:
        for _ in range(REPEATS):
            for kind, pairs in there.items():
                _take_turns(running, kind, pairs)
    rows = [row for kind, pairs in there.items() for row in _rows(kind, pairs)]
    return rows + [Row(kind.name, "skipped", "", kind.lacks()) for kind in KINDS if kind not in there]


def _take_turns(running: Product, kind: Kind, pairs: Pairs) -> None:
    with loading(running.port, CLIENTS, TARGET) as load:
        ours = {window: _run_product(running, load, window) for window in WINDOWS}
    running.settle()
    with kind.running() as peer:
        # To nchan this is the message that a client begins with.
        peer.publish("{}", X_EventSource_Event="ready")
        with loading(peer.port, CLIENTS, kind.target, kind.how) as load:
            _warm_up(peer, load)
            theirs = {window: _run_peer(peer, load, window) for window in WINDOWS}
    for window in WINDOWS:
        pairs.setdefault(window, []).append((ours[window], theirs[window]))


def _warm_up(peer: Peer, load: Load) -> None:
    """Some say that they stream before they have subscribed: publish until all get it, one event at a time."""
    load.begin()
    deadline = time.monotonic() + 30
    while load.fewest == 0:
        assert time.monotonic() < deadline
        peer.hang_up()
        peer.publish(_event())
        before = ""
        while before != (before := load.ask("frames")):  # some are still getting it
            time.sleep(1.0)
    peer.hang_up()


def _event() -> str:
    return json.dumps({"stamp": f"^{time.time_ns() // 1000 % 10**12}^", "body": _BODY})


def _run_product(running: Product, load: Load, window: int) -> Run:
    def serve() -> float:
        used = running.cpu
        in_window(load, running.write, window, SECONDS)
        return running.cpu - used

    return counted(load, serve, 1)


def _run_peer(peer: Peer, load: Load, window: int) -> Run:
    def serve() -> float:
        used = peer.cpu
        in_window(load, lambda: peer.publish(_event()), window, SECONDS)
        return peer.cpu - used

    return counted(load, serve, 1)


def _rows(kind: Kind, pairs: Pairs) -> list[Row]:
    rows = []
    for window, each in pairs.items():
        ratios = [theirs.cpu / ours.cpu for ours, theirs in each]
        ours, theirs = middle([pair[0] for pair in each]), middle([pair[1] for pair in each])
        what = f"{CLIENTS:,} clients, {window} on the way, beside {kind.name}"
        cpu = f"CPU per delivery {ours.cpu * 1e6:.1f} us, theirs {theirs.cpu * 1e6:.1f} us"
        how = (
            f"{cpu} (ratios {min(ratios):.2f} to {max(ratios):.2f}); "
            f"{ours.rate:,.0f}/s at {ours.busy:.2f} of a core, theirs {theirs.rate:,.0f}/s at {theirs.busy:.2f}; "
            f"{ours.frame:.0f} bytes a frame, theirs {theirs.frame:.0f}"
        )
        rows.append(Row(what, f"{statistics.median(ratios):.2f}x", GOALS.get(kind.name, ""), how))
    return rows
