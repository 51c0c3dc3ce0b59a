"""A crowd: many streams of one table in a process of their own, each of which comes back from its last position.

`crowd()` starts `python -m tests.faults.crowd`. It keeps the ids of the changes that each client got, in order, and
looks at nothing else of them, so that a million changes are read in seconds.
"""

from __future__ import annotations

import json
import random
import re
import select
import selectors
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.fixtures.clients import SseReader
from tests.fixtures.servers import ROOT, python

_EVENT_ID = re.compile(rb'^data: \{"id":"(\d+)"', re.MULTILINE)
_CURSOR = re.compile(rb"^id: (\S+)", re.MULTILINE)
_NAME = re.compile(rb"^event: (\w+)", re.MULTILINE)
CHANGES = {b"insert", b"update", b"delete", b"truncate"}
AGAIN_SECONDS = (0.05, 0.5)
PATIENCE_SECONDS = 100.0


class Member(SseReader):
    """One connection of a client. `ids` and the counts outlive it."""

    def __init__(self, port: int, table: str, since: str, ids: list[int], told: Counter[str]) -> None:
        self.ids, self.told = ids, told
        self.heard_at, self.silence = time.monotonic(), 0.0
        super().__init__(port, [table], since)

    def read(self) -> bool:
        self.note_silence()
        return super().read()

    def note_silence(self) -> None:
        """Comments count too: they reach whoever might cut the connection."""
        now = time.monotonic()
        self.silence, self.heard_at = max(self.silence, now - self.heard_at), now

    def _parse(self) -> None:
        *blocks, self._text = self._text.split(b"\n\n")
        for block in blocks:
            if not (name := _NAME.search(block)):
                continue  # a comment, or the time to wait
            if cursor := _CURSOR.search(block):
                self.cursor = cursor[1].decode()
            if name[1] in CHANGES and (found := _EVENT_ID.search(block)):
                self.ids.append(int(found[1]))
            else:
                self.told[name[1].decode()] += 1


class Crowd:
    """All of them, in one loop."""

    def __init__(self, port: int, table: str, since: str, clients: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(clients)]
        self.told: Counter[str] = Counter()
        self._selector = selectors.DefaultSelector()
        self._port, self._table = port, table
        self._waiting = deque((0.0, n, since) for n in range(clients))
        self.silence = 0.0

    def step(self) -> None:
        self._come_back()
        for key, _ in self._selector.select(0.02):
            member: Member = key.fileobj  # type: ignore[assignment]
            try:
                alive = member.read()
            except OSError:
                alive = False
            if not alive:
                self.told["hung up"] += 1
                self._leave(member, key.data)

    def _come_back(self) -> None:
        """Some at a time, so that those who are connected are read from as well."""
        for _ in range(min(50, len(self._waiting))):
            due, number, since = self._waiting.popleft()
            if due > time.monotonic():
                self._waiting.append((due, number, since))
                continue
            try:
                member = Member(self._port, self._table, since, self.ids[number], self.told)
            except OSError:
                self.told["refused"] += 1
                self._again(number, since)
                continue
            self._selector.register(member, selectors.EVENT_READ, number)

    def _leave(self, member: Member, number: int) -> None:
        self.silence = max(self.silence, member.silence)
        self._selector.unregister(member)
        member.sock.close()
        self._again(number, member.cursor)

    def _again(self, number: int, since: str) -> None:
        self._waiting.append((time.monotonic() + random.uniform(*AGAIN_SECONDS), number, since))

    def serve(self) -> None:
        """Each line on stdin is an event's id: answer when everybody has it, or when it took too long."""
        clients = len(self.ids)
        while self.told["ready"] < clients:
            self.step()
        print(json.dumps("ready"), flush=True)
        while True:
            self.step()
            if select.select([sys.stdin], [], [], 0)[0]:
                if not (line := sys.stdin.readline()):
                    return
                self._until(json.loads(line))

    def _until(self, last: int) -> None:
        began = time.monotonic()
        while not all(ids and ids[-1] >= last for ids in self.ids) and time.monotonic() < began + PATIENCE_SECONDS:
            self.step()
        kinds = Counter(map(tuple, self.ids))
        connected: list[Any] = [key.fileobj for key in self._selector.get_map().values()]
        silence = max([self.silence, *(member.silence for member in connected)])
        print(json.dumps({"silence": silence, "seconds": time.monotonic() - began, "told": self.told,
                          "kinds": [[list(ids), n] for ids, n in kinds.most_common(3)], "others": len(kinds)}),
              flush=True)  # fmt: skip


class Found(NamedTuple):
    """:param kinds: what clients got, the most common first, each with how many it were.
    :param silence: the longest time in which one that was connected heard nothing.
    """

    silence: float
    seconds: float
    told: dict[str, int]
    kinds: list[tuple[list[int], int]]
    others: int


class RunningCrowd:
    """The test's side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the crowd ended with {self._process.wait()}"
        return json.loads(line)

    def until(self, last: int) -> Found:
        """Wait until everybody has this event."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{last}\n")
        self._process.stdin.flush()
        return Found(**self.answer())


@contextmanager
def crowd(port: int, table: str, since: str, clients: int, *, wait: bool = True) -> Iterator[RunningCrowd]:
    """Let them all come at once; ended after the block.

    :param since: where all of them have been before.
    :param wait: until all are ready.
    """
    spec = json.dumps([port, table, since, clients])
    process = subprocess.Popen(
        python("-m", "tests.faults.crowd", spec), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        running = RunningCrowd(process)
        if wait:
            running.answer()
        yield running
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    Crowd(*json.loads(sys.argv[1])).serve()
