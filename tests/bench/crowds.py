"""Crowds: what ten thousand idle clients cost, when it is noticed that they left, how fast changes may come, and what
stalled readers do to the others. One gunicorn gevent worker on a core of its own, the whole product."""

from __future__ import annotations

import http.client
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.bench.native import Counted, Load, loading
from tests.bench.printing import Row, percentile
from tests.bench.product import TARGET, Product, product

IDLE = 10_000
LEAVING = 500
RATES = (64, 128, 200, 300, 400, 600, 800, 1200)
MOST_P95_MILLISECONDS = 200.0
SECONDS = 4.0
SLOW = 20
REPEATS = 3


def measure() -> list[Row]:
    return [*_idle(), *_idle_without(), *_leaving(), *_sustained(), *_stalled()]


# --- Idle


def _idle() -> list[Row]:
    with product() as running:
        with loading(running.port, 100, TARGET) as load:  # warm up
            running.write()
            load.until(1)
        running.settle()
        before = running.rss
        alone = _pages(running, 2.0)
        with loading(running.port, IDLE, TARGET) as load:
            running.settle(IDLE)
            grown, beside = running.rss - before, _pages(running, 2.0)
            load.begin(100)
            with _asking(running) as during:
                running.write(100)
                load.hear()
            counted = load.end()
            opened = load.opened
    return [
        Row(
            "memory per idle client, handed over", f"{grown / IDLE / 1000:.2f} kB", "<= 1 kB", f"RSS, {IDLE:,} clients"
        ),
        Row("connecting", f"{IDLE / opened.seconds:,.0f}/s", "", f"{IDLE:,} at once, {opened.seconds:.1f} s"),
        Row("a burst of 100 changes to all of them", f"{counted.seconds:.2f} s", "", f"{counted.frames:,} deliveries"),
        _page_row("an ordinary request, nobody connected", alone),
        _page_row(f"an ordinary request beside {IDLE:,} idle clients", beside),
        _page_row("an ordinary request during the burst", during),
    ]


def _idle_without() -> list[Row]:
    with product(handover=False) as running:
        with loading(running.port, 100, TARGET) as load:
            running.write()
            load.until(1)
        running.settle()
        before = running.rss
        with loading(running.port, 1000, TARGET):
            running.settle(1000)
            grown = running.rss - before
    return [Row("memory per idle client, kept by the server", f"{grown / 1e6:.1f} kB", "", "RSS, 1,000 clients")]


def _pages(running: Product, seconds: float) -> list[float]:
    ends, took = time.monotonic() + seconds, []
    while time.monotonic() < ends:
        took.append(_page(running))
        time.sleep(0.01)
    return took


def _page(running: Product) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    connection.request("GET", "/page")
    assert connection.getresponse().read() == b"hello"
    connection.close()
    return time.perf_counter() - began


@contextmanager
def _asking(running: Product) -> Iterator[list[float]]:
    took: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            took.append(_page(running))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


def _page_row(what: str, took: list[float]) -> Row:
    p50, p99 = (percentile(took, share) * 1000 for share in (0.5, 0.99))
    return Row(f"{what}, p50 / p99", f"{p50:.1f} / {p99:.1f} ms", "", f"{len(took)} requests")


# --- Leaving


def _leaving() -> list[Row]:
    took = []
    with product() as running:
        for _ in range(REPEATS):
            with loading(running.port, LEAVING, TARGET) as load:
                running.settle(LEAVING)
                load.drop()
                took.append(running.settle())
    how = f"{LEAVING} at once, no changes, {REPEATS} times; seen from outside, by asking /pgevents/health"
    return [Row("disconnects noticed", f"{statistics.median(took):.3f} s", "< 0.2 s", how)]


# --- Sustained


def _sustained() -> list[Row]:
    rows = []
    with product() as running:
        for table, what, share, goal in (
            ("ticks", "everybody sees each", 1.0, ">= 200/s"),
            ("shared", "rights of each client, everybody sees each", 1.0, ">= 150/s"),
            ("owned", "rights of each client, one sees each", 1 / LEAVING, ">= 150/s"),
        ):
            rows.append(_highest(running, table, what, share, goal))
            running.settle()
    return rows


def _highest(running: Product, table: str, what: str, share: float, goal: str) -> Row:
    found, details = 0, []
    for rate in RATES:
        with loading(running.port, LEAVING, f"/pgevents/stream?table={table}") as load:
            sent, counted = _at_rate(running, load, table, rate)
        running.settle()
        details.append(f"{rate}/s {counted.p95:.0f} ms")
        if counted.p95 > MOST_P95_MILLISECONDS or counted.frames < sent * LEAVING * share:
            break
        found = rate
    how = f"p95 of the delay: {', '.join(details)}"
    return Row(f"{LEAVING} clients, {what}: changes a second with p95 under 200 ms", f"{found}/s", goal, how)


def _at_rate(running: Product, load: Load, table: str, rate: int) -> tuple[int, Counted]:
    """Commit so many changes a second, one by one, whatever becomes of them; wait a second for the last."""
    load.begin()
    began = time.monotonic()
    sent = 0
    while (passed := time.monotonic() - began) < SECONDS:
        if sent < passed * rate:
            running.write(1, table)
            sent += 1
        else:
            time.sleep(0.0005)
    time.sleep(1.0)
    return sent, load.end()


# --- Stalled


def _stalled() -> list[Row]:
    alone, beside, grown = [], [], []
    with product(max_queue_bytes=1_000_000) as running:
        for _ in range(REPEATS):
            alone.append(_with_slow(running, 0)[0].p99)
            counted, more = _with_slow(running, SLOW)
            beside.append(counted.p99)
            grown.append(more)
    share = statistics.median(beside) / statistics.median(alone)
    how = (
        f"p99 {statistics.median(alone):.1f} ms without, {statistics.median(beside):.1f} ms with; 50 changes/s of 2 kB"
    )
    return [
        Row(f"{SLOW} stalled and {SLOW} trickling among {LEAVING}: p99 of the others", f"{share:.2f}x", "<= 1.1x", how),
        Row(
            "memory that they cost meanwhile",
            f"{max(grown) / 1e6:.1f} MB",
            "",
            "RSS, most of 3 times; cap 1 MB each",
        ),
    ]


def _with_slow(running: Product, slow: int) -> tuple[Counted, int]:
    with ExitStack() as stack:
        crowd: Any = stack.enter_context(loading(running.port, LEAVING, TARGET))
        for how in ("stall", "trickle") if slow else ():
            stack.enter_context(loading(running.port, slow, TARGET, how))
        running.settle(LEAVING + (2 * slow))
        before = running.rss
        crowd.begin()
        began, sent = time.monotonic(), 0
        while time.monotonic() - began < SECONDS:
            running.write(1, size=2000)
            sent += 1
            time.sleep(max(0.0, began + sent / 50 - time.monotonic()))
        crowd.until(sent)
        counted = crowd.end()
        grown = running.rss - before
    running.settle()
    return counted, grown
