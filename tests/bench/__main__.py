"""`make bench`: prints one table of all measurements; takes some minutes. pytest does not run it."""

from __future__ import annotations

import subprocess

from demo.postgres import find_binaries
from tests.bench import commit_latency, writer_throughput
from tests.bench.printing import machine, print_table


def main() -> None:
    version = subprocess.check_output([find_binaries() / "postgres", "--version"], text=True).split()[-1]
    print(machine(version))
    print_table([*commit_latency.measure(), *writer_throughput.measure()])


if __name__ == "__main__":
    main()
