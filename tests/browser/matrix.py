"""The matrix: what browsers show when things go wrong. Each kind of client in two browsers, all under one fault.

`python -m tests.browser.matrix --rounds 3` (or `make matrix`) prints it. A writer goes on writing meanwhile; the truth
is what SQL says.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tests.browser.both import Browser, both
from tests.browser.matrix_clients import CLIENTS, Client, Truth, Verdict
from tests.browser.matrix_faults import FAULTS, IMPOSSIBLE
from tests.browser.matrix_writer import Writer
from tests.browser.stage import Stage, staged

RECOVERY_SECONDS = 60.0
Verdicts = dict[tuple[str, str], Verdict]


class Matrix:
    """The clients on a stage. `run` lets a fault happen to all of them at once."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self._chance = random.Random(seed)
        self._clients = {browser: [Client(name, browser) for name in CLIENTS] for browser in stage.browsers}

    def close(self) -> None:
        self._each(lambda client: client.close())

    def _each(self, act: Callable[[Client], None]) -> None:
        """Do something with each client. The browsers work at the same time; each listens to one of us at a time."""

        def in_browser(browser: Browser) -> None:
            for client in self._clients[browser]:
                act(client)

        with ThreadPoolExecutor() as threads:
            list(threads.map(in_browser, self._clients))

    def run(self, fault: str) -> Verdicts:
        """Let a fault happen while a writer writes; return what became of each client."""
        self._each(lambda client: client.fill(self.stage.url))
        [(start,)] = self.stage.execute("SELECT coalesce(max(id), 0) FROM pgevents.log")
        with self._writing():
            FAULTS[fault].happen(self.stage, [client for some in self._clients.values() for client in some])
        self.stage.execute("INSERT INTO orders (customer, item) VALUES ('Last', 'Rope')")
        return self._judge(self._truth(start), time.monotonic())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        writer = Writer(self.stage.connect, self._chance.randrange(10**9))
        writer.start()
        try:
            time.sleep(0.5)
            yield
            time.sleep(0.5)
        finally:
            writer.stop()

    def _truth(self, start: int) -> Truth:
        later = f"FROM pgevents.log WHERE id > {start} AND table_name = 'orders' ORDER BY id"
        changes = dict(self.stage.execute(f"SELECT id, type {later}"))
        return Truth(changes, [list(row) for row in self.stage.execute("SELECT id, quantity FROM orders ORDER BY id")])

    def _judge(self, truth: Truth, ended: float) -> Verdicts:
        verdicts: Verdicts = {}

        def judge(client: Client) -> None:
            """Until all is well, or will never be. Then it begins anew with the next fault."""
            while True:
                verdict = verdicts[client.browser.name, client.name] = client.judge(truth)
                verdict.seconds = time.monotonic() - ended
                if verdict.good or verdict.dead or verdict.seconds > RECOVERY_SECONDS:
                    break
                time.sleep(0.05)
            if not verdict.good:
                client.close()

        self._each(judge)
        return verdicts


def wrong(fault: str, verdicts: Verdicts) -> list[str]:
    """Say of each cell that is not as it should be how it is."""
    found = []
    for (browser, client), verdict in verdicts.items():
        is_right = verdict.dead if (fault, client) in IMPOSSIBLE else verdict.good
        if not is_right or (client in FAULTS[fault].noticed_by and not verdict.broken):
            found.append(f"{browser}, {client}: {verdict}")
    return found


def table(fault: str, verdicts: Verdicts) -> Iterator[str]:
    """The lines of one fault."""
    for (browser, client), verdict in verdicts.items():
        impossible = (fault, client) in IMPOSSIBLE and verdict.dead
        said = "ok" if verdict.good else "impossible" if impossible else str(verdict)
        yield f"  {browser:9} {client:24} {verdict.seconds:5.1f} s lost its connection {verdict.broken:2} times  {said}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS), metavar="FAULT")
    options = parser.parse_args()
    print(f"seed {options.seed}")
    bad = 0
    with both() as browsers, staged(browsers) as stage:
        matrix = Matrix(stage, options.seed)
        for number, fault in ((number, fault) for number in range(options.rounds) for fault in options.faults):
            begun = time.monotonic()
            verdicts = matrix.run(fault)
            print(
                f"\nround {number + 1}: {fault}, {time.monotonic() - begun:.0f} s",
                *table(fault, verdicts),
                sep="\n",
                flush=True,
            )
            bad += len(wrong(fault, verdicts))
    print(f"\n{bad} cells are not as they should be")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
