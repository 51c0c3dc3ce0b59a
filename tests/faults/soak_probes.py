"""Probes of the soak: how long until every worker has delivered a row, to clients that only ever see latency."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.faults.soak_clients import Stream
from tests.faults.soak_nemeses import Stage
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


@contextmanager
def probes(stage: Stage, errors: list[str]) -> Iterator[Callable[[], float]]:
    """Connect a stream to every worker; yields what inserts a row and returns the seconds until all have it."""
    number = 0
    threads, arrived = Threads(errors), dict[int, list[int]]()
    while len(arrived) < WORKERS:
        stream, last = _probe(stage, errors)
        arrived[stream.process] = last
        threads.start(stream.follow)

    def deliver() -> float:
        nonlocal number
        number += 1
        began = time.monotonic()
        stage.execute(f"INSERT INTO probe VALUES (-{number})")
        if not until(lambda: all(last == [-number] for last in arrived.values())):
            errors.append(f"nothing came after {number} steps: {arrived}")
        return round(time.monotonic() - began, 3)

    yield deliver
    threads.end()


def _probe(stage: Stage, errors: list[str]) -> tuple[Stream, list[int]]:
    """A stream that is never to hear of anything but changes, and what it has got last."""
    last, ready = [0], list[str]()

    def got(name: str, cursor: str, data: Any) -> None:
        if name == "insert":
            last[0] = data["pk"]["id"]
        elif name == "ready":
            ready.append(cursor)
        elif name != "sync":
            errors.append(f"a connected client was told {name}: {data}")

    stream = Stream(stage.serving.ports[0], ["probe"], "", got)
    while not ready:
        stream.look()
    return stream, last
