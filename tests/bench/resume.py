"""`make bench-resume`: crowds that come back at once, and what a live client notices of it; takes some minutes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tests.bench.printing import Row, machine, percentile, print_table
from tests.faults.returning import MISSED, SOURCES, check, come_back


def rows(clients: int, source: str) -> Iterator[Row]:
    """Let them come back once; those who did not get exactly what they missed end the measurement."""
    back = come_back(clients, source)
    check(back.found, clients, back.ids)
    how = f"{clients} clients miss {MISSED} changes each, two workers; from {source}"
    yield Row("until the last one has caught up", f"{back.seconds:.1f} s", "", how)
    yield Row("changes a second that they get", f"{clients * MISSED / back.seconds:,.0f}", "", how)
    yield Row("the longest silence of one that comes back", f"{back.found.silence:.1f} s", "< a heartbeat, 15 s", how)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        quiet, stormy = percentile(back.quiet, share), percentile(back.stormy, share)
        ratio = f"{stormy / quiet:.1f}x, {quiet:.1f} -> {stormy:.1f} ms"
        yield Row(f"live changes meanwhile, {name}", ratio, "< 2x" if share > 0.5 else "", how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, action="append", help="default: 100 and 1000")
    given = parser.parse_args()
    print(machine("embedded"))
    print_table([row for n in given.clients or (100, 1000) for source in SOURCES for row in rows(n, source)])


if __name__ == "__main__":
    main()
