"""Printing: what every measurement has in common: percentiles, a table, the line that names the machine."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gevent

from pgevents_push import __version__


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, its value with unit, what DESIGN asks for, and how it was done."""

    what: str
    value: str
    goal: str = ""
    how: str = ""


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latency_rows(what: str, seconds: Sequence[float], goal: str, how: str) -> list[Row]:
    """Return the lines for a list of delays."""
    rows = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
    return [
        Row(f"{what}, {name}", f"{percentile(seconds, share) * 1000:.2f} ms", goal if name == "p50" else "", how)
        for name, share in rows
    ]


def print_table(rows: Sequence[Row]) -> None:
    table = [("what", "value", "goal", "how"), *((r.what, r.value, r.goal, r.how) for r in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def machine(postgres: str) -> str:
    """Say on what this ran: figures of two machines are not comparable, ratios are."""
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    return (
        f"{_processor()}, {os.cpu_count()} cores (load {load}); {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, gevent {gevent.__version__}; "
        f"PostgreSQL {postgres}; pgevents_push {__version__}"
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return named.group(1) if named else platform.processor() or platform.machine()
