"""A storm of hostile requests, messages and frames on a real server, while others are served and watched.

`python -m tests.security.fuzz --seconds 600` (`make fuzz`) runs a long one; tests/security/test_fuzz.py a short one.
A seed gives the same inputs; the report names it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import statistics
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import psutil

from tests.fixtures.postgres import Database, start_server
from tests.fixtures.programs import SCHEMA
from tests.fixtures.servers import Serving, serving
from tests.fixtures.watch import MARK, canary
from tests.fixtures.web import Stream
from tests.fixtures.ws_client import BadFrame, StrictClient
from tests.security.conftest import DOORS_SCHEMA
from tests.security.fuzz_inputs import Inputs
from tests.security.fuzz_parsers import Cost, fuzz_parsers

# What the README and INTERFACE promise; 405, 411, 413, 414, 431, 501 and 505 are the server's own.
STATUSES = {200, 101, 304, 400, 401, 403, 404, 405, 406, 411, 413, 414, 426, 429, 431, 501, 503, 505, 308, 416, 206}
CLOSES = {1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 4400}
MESSAGES = {"ready", "snapshot", "insert", "update", "delete", "truncate", "sync", "gap", "error", "pong"}
BASELINE_SECONDS = 5.0
PATIENCE_SECONDS = 0.5


@dataclass
class Report:
    """What was seen. `problems` is empty when all is well."""

    seed: int
    answers: Counter[str] = field(default_factory=Counter)
    parsers: dict[str, Cost] = field(default_factory=dict)
    quiet: list[float] = field(default_factory=list)
    stormy: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", *(f"{name}: {cost}" for name, cost in self.parsers.items())]
        lines.append(f"on a server: {sum(self.answers.values())} inputs, {self.each * 1e6:.0f} us of CPU each: "
                     + ", ".join(f"{count} {name}" for name, count in self.answers.most_common()))  # fmt: skip
        lines.append(
            f"others' changes arrive after {_in_ms(self.quiet)} when quiet, {_in_ms(self.stormy)} in the storm"
        )
        return "\n".join([*lines, *self.problems[:20]])

    @property
    def each(self) -> float:
        """The server's CPU seconds for one input, its baseline taken off."""
        return self.cpu_seconds / max(1, sum(self.answers.values()))

    def judge(self) -> None:
        """Add what the figures say."""
        self.problems += [problem for cost in self.parsers.values() for problem in cost.problems]
        if statistics.median(self.stormy) > max(0.1, 5 * statistics.median(self.quiet)):
            self.problems.append("others were served late")


def _in_ms(taken: list[float]) -> str:
    ordered = sorted(taken)
    return f"{statistics.median(ordered) * 1000:.1f} ms (p99 {ordered[len(ordered) * 99 // 100] * 1000:.1f})"


def fuzz(database: Database, seed: int, seconds: float) -> Report:
    """Storm for so long, a third of it on the parsers alone."""
    report = Report(seed)
    report.parsers = fuzz_parsers(seed, seconds / 3)
    database.execute(SCHEMA)
    database.execute(DOORS_SCHEMA)
    app = "tests.fixtures.doors_app:app"
    with serving("gevent", database.url, 1, ["--error-logfile", "-"], app, heartbeat_seconds=1, metrics=True) as server:
        rows = "INSERT INTO docs SELECT -n, 'seen', %s || n FROM generate_series(1, 200) AS n"
        database.execute(rows, canary("column"))
        with Other(database, server.ports[0]) as other:
            used = _cpu(server)
            other.watch(BASELINE_SECONDS, report.quiet)
            baseline = (_cpu(server) - used) / BASELINE_SECONDS
            used, began = _cpu(server), time.monotonic()
            # In a process of its own: it must not take the time of the one that watches.
            with ProcessPoolExecutor(1, get_context("spawn")) as attacker:
                attack = attacker.submit(storm, server.ports[0], seed, seconds * 2 / 3)
                other.watch(seconds * 2 / 3, report.stormy)
                report.answers, problems = attack.result(30)
                report.problems += problems
            report.cpu_seconds = _cpu(server) - used - baseline * (time.monotonic() - began)
        report.problems += _complaints(server.printed())
    report.judge()
    return report


def storm(port: int, seed: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """Attack for so long; return how often which answer came, and what was wrong."""
    inputs, answers, problems = Inputs(seed), Counter[str](), list[str]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        attack = inputs.chance.choice((_request, _request, _request, _socket))
        try:
            answers[attack(port, inputs)] += 1
        except AssertionError as error:
            problems.append(str(error)[:1000])
            answers["wrong"] += 1
    return answers, problems


class Other:
    """Somebody who is served meanwhile: writes, and sees how soon it arrives."""

    def __init__(self, database: Database, port: int) -> None:
        self._cursor = database.connect().cursor()
        self._stream = Stream(port, "/pgevents/stream?table=docs", {"X-User": "other"})
        self._number = 0

    def __enter__(self) -> Other:
        self._stream.next("ready")
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()

    def watch(self, seconds: float, taken: list[float]) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._number += 1
            began = time.perf_counter()
            self._cursor.execute("INSERT INTO docs VALUES (%s, 'x', %s)", [self._number, canary("column")])
            while self._stream.next("insert").data["pk"]["id"] != self._number:
                pass
            taken.append(time.perf_counter() - began)
            time.sleep(0.01)


def _cpu(server: Serving) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in server.pids)


def _complaints(printed: str) -> list[str]:
    """What a server says of an exception that nobody caught."""
    found = re.findall(
        r"^.*(?:Traceback|ERROR|CRITICAL|Exception).*\n(?:.*\n){0,30}?(?=\S*Error|\Z).*", printed, re.MULTILINE
    )
    return [f"the server's log: {text[-600:]}" for text in found[:3]] + ([MARK] if MARK in printed else [])


def _request(port: int, inputs: Inputs) -> str:
    """Send a request; return the status that came."""
    data = inputs.request(port)
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        head = _first_bytes(sock, data)
    if head == b"":
        return "closed"
    match = re.match(rb"HTTP/1\.\d (\d{3})[ \r]", head)  # gunicorn repeats a version that nobody knows
    assert match, f"{data!r:.500} was answered {head!r:.300}"
    status = int(match[1])
    assert status in STATUSES, f"{data!r:.500} was answered {head!r:.300}"
    assert MARK.encode() not in head, f"{data!r:.500} showed {head!r}"
    assert b"Traceback" not in head
    return str(status)


def _first_bytes(sock: socket.socket, data: bytes) -> bytes:
    try:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)  # who has not said everything yet has now
        return sock.recv(65536)
    except TimeoutError:
        raise AssertionError(f"{data!r:.500} was not answered") from None
    except OSError:
        return b""  # refused in the middle of it


def _socket(port: int, inputs: Inputs) -> str:
    """Open a socket and say some things; return how it ended."""
    with StrictClient(port, headers="X-User: ann\r\n") as client:
        assert client.status == 101, client.head
        said = [inputs.frame() for _ in range(inputs.chance.choice((1, 3, 10)))]
        client.sock.settimeout(PATIENCE_SECONDS)
        try:
            client.sock.sendall(b"".join(said))
            client.send({"type": "ping"})
            return f"closed {_until_pong(client, said)}"
        except TimeoutError:
            return _end(client, said)  # the last frame goes on, as far as the server knows
        except (OSError, EOFError):
            return "socket dropped"
        except BadFrame as error:
            raise AssertionError(f"{said!r:.500} was answered by no frame: {error}") from None


def _end(client: StrictClient, said: list[bytes]) -> str:
    client.sock.settimeout(10)
    client.sock.shutdown(socket.SHUT_WR)
    try:
        while client.sock.recv(65536):
            pass
    except TimeoutError:
        raise AssertionError(f"{said!r:.500} left a connection that does not end") from None
    return "half a frame"


def _until_pong(client: StrictClient, said: list[bytes]) -> int:
    """Read until our ping is answered (0), or the server closes with a code."""
    while True:
        opcode, payload = client.frame()
        assert MARK.encode() not in payload, f"{said!r:.500} showed {payload!r}"
        if opcode == 8:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            assert code in CLOSES or 3000 <= code < 5000 or code < 1005, f"{said!r:.500} was closed with {code}"
            return code
        if opcode == 1:
            kind = json.loads(payload)["type"]
            assert kind in MESSAGES, f"{said!r:.500} was answered {payload!r:.300}"
            if kind == "pong":
                return 0


def main() -> None:
    """Start a PostgreSQL of our own, and storm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    server = start_server()
    try:
        name = f"pgevents_fuzz_{uuid.uuid4().hex[:8]}"
        server.create(name)
        database = Database(server, name)
        report = fuzz(database, given.seed, given.seconds)
        database.close()
    finally:
        assert server.postgres is not None
        server.postgres.stop()
    print(report)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
