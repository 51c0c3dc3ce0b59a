"""Probes: how long until every worker has delivered a row, to clients that only ever see latency."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.soak_clients import Stream
from tests.faults.stage import Stage
from tests.fixtures.servers import WORKERS

PATIENCE_SECONDS = 30.0


class Threads:
    """Threads with one way to be told to stop. What one of them raises is an error of the round."""

    def __init__(self, errors: list[str]) -> None:
        self.stop = threading.Event()
        self._errors = errors
        self._threads: list[threading.Thread] = []

    def start(self, run: Callable[[threading.Event], None]) -> None:
        thread = threading.Thread(target=self._run, args=[run], daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, run: Callable[[threading.Event], None]) -> None:
        try:
            run(self.stop)
        except Exception as error:  # of a thread: the report must show it
            self._errors.append(f"{type(error).__name__}: {error}")

    def end(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            if thread.is_alive():
                self._errors.append("a thread did not end")


def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Probes:
    """One stream to each worker, which may never hear of anything but changes and that all is well."""

    def __init__(self, stage: Stage, errors: list[str]) -> None:
        self._stage = stage
        self._errors = errors
        self._threads = Threads(errors)
        [(self._number,)] = stage.execute("SELECT least(min(id), 0) FROM probe")
        self._last: dict[int, int] = {}
        self.syncs: Counter[int] = Counter()
        while len(self._last) < WORKERS:
            self._open()

    def _open(self) -> None:
        ready = threading.Event()

        def got(name: str, cursor: str, data: Any) -> None:
            if name == "insert":
                self._last[stream.process] = data["pk"]["id"]
            elif name == "sync":
                self.syncs[stream.process] += 1
            elif name == "ready":
                ready.set()
            else:
                self._errors.append(f"a connected client was told {name}: {data}")

        stream = Stream(self._stage.port, ["probe"], "", got)
        while not ready.is_set():
            stream.look()
        if stream.process in self._last:
            stream.sock.close()
        else:
            self._last[stream.process] = 0
            self._threads.start(stream.follow)

    def deliver(self) -> float:
        """Insert a row; return the seconds until all have it."""
        self._number -= 1
        began = time.monotonic()
        self._stage.execute(f"INSERT INTO probe VALUES ({self._number})")
        if not until(lambda: set(self._last.values()) == {self._number}):
            self._errors.append(f"change {-self._number} has not come: {self._last}")
        return round(time.monotonic() - began, 3)

    def end(self) -> None:
        self._threads.end()


@contextmanager
def probing(stage: Stage) -> Iterator[Probes]:
    """Open the probes; after the block nobody may have heard of anything but latency."""
    errors: list[str] = []
    probes = Probes(stage, errors)
    yield probes
    probes.end()
    assert not errors, (errors, stage.serving.output())
