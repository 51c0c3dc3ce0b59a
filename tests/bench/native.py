"""Native: the C programs of the bench, built with cc when they changed: many clients, and the floor to compare with."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.bench.pinning import pin_app, pin_rest
from tests.fixtures.servers import free_port, python

_HERE = Path(__file__).parent
PATIENCE_SECONDS = 150.0


@cache
def build(name: str) -> str:
    """Compile one of the sources beside this file; return the program."""
    program = Path(tempfile.mkdtemp(prefix="pgevents-bench-"), name)
    atexit.register(shutil.rmtree, program.parent, ignore_errors=True)
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, _HERE / f"{name}.c"], check=True)
    return str(program)


class Program:
    """A running program that obeys lines and answers with lines."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            _dying(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.process.args!r} ended with {self.process.wait()}"
        return line.strip()

    def ask(self, line: str) -> str:
        self.say(line)
        return self.hear()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def _dying(*command: str) -> list[str]:
    return python("-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *command)


@dataclass(frozen=True)
class Opened:
    """How the clients got in."""

    seconds: float
    cpu: float


@dataclass(frozen=True)
class Counted:
    """What the clients got: times in seconds, delays in milliseconds."""

    seconds: float
    cpu: float
    frames: int
    bytes: int
    reads: int
    ended: int
    fewest: int
    most: int
    p50: float
    p95: float
    p99: float
    max: float

    @property
    def busy(self) -> float:
        """The share of a core that the clients took."""
        return self.cpu / self.seconds


class Load(Program):
    """Many clients of one stream, in one process on the second core."""

    def __init__(self, port: int, clients: int, target: str, how: str = "read") -> None:
        super().__init__(build("load"), str(port), str(clients), target, how)
        pin_rest([self.process.pid])
        self.clients = clients
        self.opened = Opened(**{k: v for k, v in json.loads(self.hear()).items() if k != "connected"})

    def begin(self, every: int = 0) -> None:
        """Count from now on; `every` so many frames that all clients have got, `hear` returns."""
        assert self.ask(f"begin {every}") == "begun"

    def end(self) -> Counted:
        self.say("end")
        while not (line := self.hear()).startswith("{"):
            pass  # steps that nobody waited for
        return Counted(**json.loads(line))

    def until(self, frames: int) -> None:
        """Wait until each client has got so many."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.fewest < frames:
            assert time.monotonic() < deadline, f"some client has not got {frames} frames"
            time.sleep(0.005)

    @property
    def fewest(self) -> int:
        """How many frames the client with the fewest has got."""
        return int(self.ask("frames").split()[0])

    def drop(self) -> float:
        """Close all connections at once; return when."""
        return int(self.ask("drop")) / 1e6


class Floor(Program):
    """The C server, on the first core."""

    def __init__(self) -> None:
        self.port = free_port()
        super().__init__(build("floor"), str(self.port))
        pin_app([self.process.pid])
        assert self.hear() == "listening"

    def run(self, seconds: float, join: int = 1, rate: float = 0, size: int = 400) -> dict[str, Any]:
        """Send events for some seconds; return how many, and the CPU time."""
        answer: dict[str, Any] = json.loads(self.ask(f"run {seconds} {join} {rate} {size}"))
        return answer


@contextmanager
def loading(port: int, clients: int, target: str, how: str = "read") -> Iterator[Load]:
    load = Load(port, clients, target, how)
    try:
        yield load
    finally:
        load.close()


@contextmanager
def floor() -> Iterator[Floor]:
    server = Floor()
    try:
        yield server
    finally:
        server.close()


assert sys.platform == "linux", "the bench's clients use epoll"
