"""`make bench`: prints a table of each measurement; takes half an hour. pytest does not run it.

`python -m tests.bench fanout` prints some of them: `fanout`, `peers`, `crowds`, `websockets`, `latency`, `writers`,
`hub`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

from demo.postgres import find_binaries
from tests.bench import (
    bulk_writes,
    commit_latency,
    crowds,
    fanout,
    peer_fanout,
    rights,
    row_security,
    subscribers,
    websockets,
    writer_throughput,
)
from tests.bench.printing import Row, machine, print_table

GROUPS: dict[str, tuple[Callable[[], list[Row]], ...]] = {
    "hub": (subscribers.measure, row_security.measure, rights.measure),
    "latency": (commit_latency.measure,),
    "writers": (writer_throughput.measure, bulk_writes.measure),
    "fanout": (fanout.measure,),
    "peers": (peer_fanout.measure,),
    "crowds": (crowds.measure,),
    "websockets": (websockets.measure,),
}


def main(names: Sequence[str]) -> None:
    version = subprocess.check_output([find_binaries() / "postgres", "--version"], text=True).split()[-1]
    print(machine(version), flush=True)
    for name in names or GROUPS:
        for measure in GROUPS[name]:
            print_table(measure())


if __name__ == "__main__":
    main(sys.argv[1:])
