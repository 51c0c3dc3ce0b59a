"""Soak: writers, clients and nemeses at once against two workers, then the offline checker's verdict.

`python -m tests.faults.soak --seconds 600 --seed 7 [--wakeup poll]`. The seed, which is printed, replays the plan:
what goes wrong when, and what each writer and client chooses to do (not how the machine's threads interleave).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from demo.postgres import Postgres, find_binaries
from pgevents_push.extension.replay import READERS
from tests.faults.checker import PERFECT, Verdict
from tests.faults.soak_checker import LOG, Logged, unlike_tables, verdict_of
from tests.faults.soak_clients import Client
from tests.faults.soak_nemeses import KILL, NEMESES, Stage, crash, freeze, plan
from tests.faults.soak_probes import PATIENCE_SECONDS, Threads, probes, until
from tests.faults.soak_writers import SCHEMA, TABLES, Writer
from tests.fixtures.proxy import Proxy
from tests.fixtures.servers import WORKERS, free_port, serving

# Heartbeats and deadlines are short, so that a frozen server and a black hole are noticed within a short round.
SETTINGS: dict[str, Any] = {
    "heartbeat_seconds": 1.0,
    "connect_timeout_seconds": 2.0,
    "retention_rows": 10**8,
    "retry_seconds": 0.2,
}
# So little history that most who come back are answered from the log, or so much that most are from memory.
HISTORY_BYTES = {"notify": 200_000, "poll": 16_000_000}
POSTGRES = {"max_connections": "100", "max_prepared_transactions": "20", "deadlock_timeout": "50ms"}
# A worker keeps the connections on which clients that came back were answered: each a socket and gevent's pipe.
KEPT = {"connections": WORKERS * READERS, "fds": 3 * READERS}
ROWS = " UNION ALL ".join(f"SELECT '{table}', to_json(t) FROM {table} AS t" for table in TABLES)


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
    recovery: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def problems(self) -> list[Any]:
        """Everything that must be empty."""
        found = (self.verdicts, self.gaps, self.errors, self.unlike, self.leaks)
        return [problem for problem in found if problem]

    def __str__(self) -> str:
        lines = [f"{name}: {value}" for name, value in vars(self).items() if name != "unlike"]
        return "\n".join([*lines, f"unlike: {len(self.unlike)} {self.unlike[:3]}"])


@contextmanager
def _stage(wakeup: str, version: int | None) -> Iterator[Stage]:
    """A server of its own, the proxy before it, and the app behind that."""
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgevents-soak-", ignore_cleanup_errors=True))
        Path(place).chmod(0o755)
        binaries = find_binaries(version)
        postgres = stack.enter_context(Postgres(binaries, Path(place, "data"), free_port(), POSTGRES))

        def connect() -> Any:
            connection = psycopg2.connect(host="127.0.0.1", port=postgres.port, user="postgres", dbname="postgres")
            connection.autocommit = True
            return connection

        with connect().cursor() as cursor:
            cursor.execute(SCHEMA)
        assert postgres.port
        proxy = stack.enter_context(Proxy(postgres.port))
        url = f"postgresql+psycopg2://postgres@127.0.0.1:{proxy.port}/postgres"
        server = serving(
            "gevent",
            url,
            app="tests.fixtures.soak_app:app",
            wakeup=wakeup,
            history_bytes=HISTORY_BYTES[wakeup],
            **SETTINGS,
        )
        yield Stage(postgres, proxy, stack.enter_context(server), connect)


class Round:
    """One run: quiet, measured, stormy, calm, quiet."""

    def __init__(self, seed: int, seconds: float, stage: Stage, wakeup: str) -> None:
        self.report = Report(seed)
        self._seconds, self._stage = seconds, stage
        port = stage.serving.ports[0]
        kinds = [*(list(TABLES) for _ in range(4)), *([table] for table in TABLES for _ in range(2))]
        self.clients = [Client(f"{seed}/client{n}", port, tables) for n, tables in enumerate(kinds)]
        late = random.Random(seed).sample(self.clients, 3)
        self._first = [client for client in self.clients if client not in late]
        self._late = late
        self._writers = [Writer(f"{seed}/writer{n}", self._connect, wakeup == "poll") for n in range(6)]

    def _connect(self) -> Any:
        connection = self._stage.connect()
        connection.autocommit = False
        return connection

    def run(self) -> Report:
        self._measure()
        before = self._alive()
        rows = self._stage.execute(ROWS)
        [(first,)] = self._stage.execute("SELECT coalesce(max(id), 0) FROM pgevents.log")
        clients = Threads(self.report.errors)
        for client in self._first:
            clients.start(client.run)
        for client in self._first:
            assert client.ready.wait(PATIENCE_SECONDS), "a client is not ready in the quiet"
        self._storm(clients)
        log = self._settle()
        clients.end()
        self._check(log, [row for row in log if row.id > first], rows)
        self._look_for_leaks(before)
        return self.report

    # ------------------------------------------------------------------------------------ the quiet before
    def _measure(self) -> None:
        """How long each worker's stream takes to go on after three of the nemeses."""
        with probes(self._stage, self.report.errors) as deliver:
            deliver()
            self.report.recovery["nothing"] = deliver()
            self._stage.execute(KILL)
            self.report.recovery["listener killed"] = deliver()
            crash(self._stage, 0.5)
            self.report.recovery["PostgreSQL restarted"] = deliver()
            freeze(self._stage, 4.0)
            self.report.recovery["PostgreSQL frozen"] = deliver()

    # ------------------------------------------------------------------------------------ the storm
    def _storm(self, clients: Threads) -> None:
        writers = Threads(self.report.errors)
        for writer in self._writers:
            writers.start(writer.run)
        steps = plan(self.report.seed, self._seconds)
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
        for statement in ("item", "child", "part (region, id) VALUES ('eu', -1)", "pair", "probe"):
            values = statement if "VALUES" in statement else f"{statement} (id) VALUES (-999)"
            self._stage.execute(f"INSERT INTO {values}")
        log = [Logged(*row) for row in self._stage.execute(LOG)]
        last = {row.table: row.id for row in log}

        def has_all(client: Client) -> bool:
            wanted = {last[table] for table in client.tables}
            return wanted <= {int(data["id"]) for data in client.seen[-100:]}

        began = time.monotonic()
        if not until(lambda: all(map(has_all, self.clients))):
            names = [client.name for client in self.clients if not has_all(client)]
            self.report.errors.append(f"clients that never caught up: {names}")
        self.report.recovery["storm"] = round(time.monotonic() - began, 3)
        return log

    # ------------------------------------------------------------------------------------ the quiet after
    def _check(self, log: list[Logged], played: list[Logged], before: list[Any]) -> None:
        report = self.report
        report.changes = len(played)
        report.delivered = sum(len(client.seen) for client in self.clients)
        verdicts = {client.name: verdict_of(log, client) for client in self.clients}
        report.verdicts = {name: verdict for name, verdict in verdicts.items() if verdict != PERFECT}
        report.gaps = {client.name: client.gaps for client in self.clients if client.gaps}
        report.errors += [f"{client.name}: {error}" for client in self.clients for error in client.errors]
        report.unlike = unlike_tables(played, before, self._stage.execute(ROWS))
        for name, some in (("writers", self._writers), ("clients", self.clients)):
            report.counts[name] = sum((one.counts for one in some), Counter[str]())

    def _alive(self) -> dict[str, int]:
        """What is alive, the most of any worker, and how many connections PostgreSQL has from the app."""
        port, most, asked = self._stage.serving.ports[0], Counter[str](), set[str]()
        workers = {str(pid) for pid in self._stage.workers()}
        for _ in range(200):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/left", timeout=10) as answer:
                asked.add(answer.headers["X-Process"])
                most |= Counter(json.load(answer))
            if asked >= workers:
                break
        [(connections,)] = self._stage.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return {**most, "connections": connections}

    def _look_for_leaks(self, before: dict[str, int]) -> None:
        def grown() -> list[str]:
            now = self._alive()
            return [f"{name}: {before[name]} -> {now[name]}" for name in now
                    if now[name] > before[name] + KEPT.get(name, 0)]  # fmt: skip

        if not until(lambda: not grown(), 15):
            self.report.leaks = [*grown(), *map(_open_files, self._stage.workers())]


def _open_files(pid: int) -> str:
    """Say what a process has open."""
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    connections = [f"{c.fd}: {c.laddr} {c.raddr} {c.status}" for c in psutil.Process(pid).net_connections("all")]
    return f"{pid}: {sorted(map(str, links))} {connections}"


def run(seed: int, seconds: float, wakeup: str = "notify", version: int | None = None) -> Report:
    """Run one round; `seconds` is the storm's length.

    :param wakeup: "poll" adds two-phase transactions to the writers.
    :param version: PostgreSQL's major version; default: the newest here.
    """
    print(f"FAULTS_SEED={seed} wakeup={wakeup}", flush=True)
    with _stage(wakeup, version) as stage:
        round_ = Round(seed, seconds, stage, wakeup)
        try:
            return round_.run()
        except BaseException:
            print(round_.report, stage.serving.output(), sep="\n")
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it storms")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--wakeup", choices=("notify", "poll"), default="notify")
    parser.add_argument("--postgres", type=int, help="the major version")
    given = parser.parse_args()
    report = run(given.seed, given.seconds, given.wakeup, given.postgres)
    print(report)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
