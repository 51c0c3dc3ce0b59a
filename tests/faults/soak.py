"""Soak: writers, clients and nemeses at once against two workers, then the offline checker's verdict.

`python -m tests.faults.soak --seconds 600 --seed 7 [--wakeup poll] [--postgres 15] [--nemeses crash,cut]`. The seed,
which is printed, replays the plan: what goes wrong when, and what each writer and client chooses to do (not how the
machine's threads interleave).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tests.faults.checker import PERFECT, Verdict
from tests.faults.probes import PATIENCE_SECONDS, Threads, probing, until
from tests.faults.soak_checker import LOG, Logged, unlike_tables, verdict_of
from tests.faults.soak_clients import Client
from tests.faults.soak_nemeses import NEMESES, Step, plan
from tests.faults.soak_writers import TABLES, Writer
from tests.faults.stage import Stage, staged

# So little history that most who come back are answered from the log, or so much that most are from memory.
HISTORY_BYTES = {"notify": 200_000, "poll": 16_000_000}
ROWS = " UNION ALL ".join(f"SELECT '{table}', to_json(t) FROM {table} AS t" for table in TABLES)
LAST = ("item", "child", "part (region, id) VALUES ('eu', -1)", "pair", "probe")


@dataclass
class Report:
    """What a round has found. `verdicts` has an entry for each client that is not perfect."""

    seed: int
    changes: int = 0
    delivered: int = 0
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    gaps: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    settled_seconds: float = 0.0
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def problems(self) -> list[Any]:
        """Everything that must be empty. Nobody may be told of a gap: the log keeps all, and the plan has nothing
        that breaks continuity."""
        found = (self.verdicts, self.gaps, self.errors, self.unlike, self.leaks)
        return [problem for problem in found if problem]

    def __str__(self) -> str:
        lines = [f"{name}: {value}" for name, value in vars(self).items() if name != "unlike"]
        return "\n".join([*lines, f"unlike: {len(self.unlike)} {self.unlike[:3]}"])


class Round:
    """One run: quiet, stormy, calm, quiet."""

    def __init__(self, seed: int, stage: Stage, wakeup: str) -> None:
        self.report = Report(seed)
        self._stage = stage
        kinds = [*(list(TABLES) for _ in range(4)), *([table] for table in TABLES for _ in range(2))]
        self.clients = [Client(f"{seed}/client{n}", stage.port, tables) for n, tables in enumerate(kinds)]
        self._late = random.Random(seed).sample(self.clients, 3)
        self._first = [client for client in self.clients if client not in self._late]
        self._writers = [Writer(f"{seed}/writer{n}", self._connect, wakeup == "poll") for n in range(6)]

    def _connect(self) -> Any:
        connection = self._stage.connect()
        connection.autocommit = False
        return connection

    def run(self, steps: list[Step]) -> Report:
        with probing(self._stage) as probes:
            probes.deliver()  # positions of an empty log know nothing of when its tables were made
        before = self._stage.alive()
        rows = self._stage.execute(ROWS)
        [(first,)] = self._stage.execute("SELECT coalesce(max(id), 0) FROM pgevents.log")
        clients = Threads(self.report.errors)
        for client in self._first:
            clients.start(client.run)
        for client in self._first:
            assert client.ready.wait(PATIENCE_SECONDS), "a client is not ready in the quiet"
        self._storm(clients, steps)
        log = self._settle()
        clients.end()
        self._check([row for row in log if row.id > first], rows)
        if not until(lambda: not self._stage.grown(before), 15):
            self.report.leaks = [*self._stage.grown(before), *self._stage.remains()]
        return self.report

    # ------------------------------------------------------------------------------------ the storm
    def _storm(self, clients: Threads, steps: list[Step]) -> None:
        writers = Threads(self.report.errors)
        for writer in self._writers:
            writers.start(writer.run)
        print("plan:", ", ".join(f"{s.name} {s.seconds:.1f} s" for s in steps), flush=True)
        for number, step in enumerate(steps):
            if number < len(self._late):
                clients.start(self._late[number].run)
            time.sleep(step.pause)
            NEMESES[step.name][0](self._stage, step.seconds)
        for client in self._late[len(steps) :]:
            clients.start(client.run)
        writers.end()
        for writer in self._writers:
            self.report.errors += writer.errors

    def _settle(self) -> list[Logged]:
        """End what is prepared, commit one more change to each table, and wait until everybody has that."""
        for client in self.clients:
            client.calm.set()
        for (gid,) in self._stage.execute("SELECT gid FROM pg_prepared_xacts"):
            self._stage.execute(f"COMMIT PREPARED '{gid}'")
        for statement in LAST:
            values = statement if "VALUES" in statement else f"{statement} (id) VALUES (-999)"
            self._stage.execute(f"INSERT INTO {values}")
        log = [Logged(*row) for row in self._stage.execute(LOG)]
        last = {row.table: row.id for row in log}

        def behind() -> list[str]:
            return [c.name for c in self.clients if not all(c.has_lately(last[table]) for table in c.tables)]

        began, seen = time.monotonic(), -1
        # Slow is something else than stuck: as long as something comes, it is waited for.
        while not until(lambda: not behind()) and seen < (seen := self._seen()):
            print(f"{seen} changes have come, {self._stage.cpu_seconds()}, behind are {behind()}", flush=True)
        if behind():
            self.report.errors.append(f"clients that never caught up: {behind()}")
        self.report.settled_seconds = round(time.monotonic() - began, 3)
        return log

    def _seen(self) -> int:
        return sum(len(client.changes) for client in self.clients)

    # ------------------------------------------------------------------------------------ the quiet after
    def _check(self, log: list[Logged], before: list[Any]) -> None:
        report = self.report
        report.changes = len(log)
        report.delivered = sum(len(client.changes) for client in self.clients)
        verdicts = {client.name: verdict_of(log, client, client in self._first) for client in self.clients}
        report.verdicts = {name: verdict for name, verdict in verdicts.items() if verdict != PERFECT}
        report.gaps = {client.name: client.gaps for client in self.clients if client.gaps}
        report.errors += [f"{client.name}: {error}" for client in self.clients for error in client.errors]
        report.unlike = unlike_tables(log, before, self._stage.execute(ROWS))
        for name, some in (("writers", self._writers), ("clients", self.clients)):
            report.counts[name] = sum((one.counts for one in some), Counter[str]())


def run(
    seed: int, seconds: float, wakeup: str = "notify", version: int | None = None, names: Collection[str] = NEMESES
) -> Report:
    """Run one round; `seconds` is the storm's length.

    :param wakeup: "poll" adds two-phase transactions to the writers.
    :param version: PostgreSQL's major version; default: the newest here.
    :param names: of the nemeses that may come.
    """
    print(f"FAULTS_SEED={seed} wakeup={wakeup} postgres={version or 'newest'}", flush=True)
    with staged(wakeup, version, history_bytes=HISTORY_BYTES[wakeup]) as stage:
        round_ = Round(seed, stage, wakeup)
        try:
            return round_.run(plan(seed, seconds, names))
        except BaseException:
            print(round_.report, stage.serving.output(), sep="\n")
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it storms")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--wakeup", choices=("notify", "poll"), default="notify")
    parser.add_argument("--postgres", type=int, help="the major version")
    parser.add_argument("--nemeses", default=",".join(NEMESES), help="only these")
    given = parser.parse_args()
    report = run(given.seed, given.seconds, given.wakeup, given.postgres, given.nemeses.split(","))
    print(report)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
