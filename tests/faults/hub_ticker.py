"""A gevent-patched process whose ticker greenlet notices every time that the hub stands still.

`python -m tests.faults.hub_ticker` starts the app of tests/fixtures/app.py, without a server. Each line on stdin
names a phase; the answer is the longest time that the hub stood still since the last one, in seconds, and the
listener's status. The environment variable BREAK breaks the package on purpose: "install" (installing blocks) or
"read" (the listener's statements block).
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.fileobject import FileObjectThread  # noqa: E402

from pgevents_push import events, waiting  # noqa: E402
from tests.fixtures.app import app  # noqa: E402

TICK_SECONDS = 0.005
_wait = waiting.wait_any


class Ticker:
    """Wakes every TICK_SECONDS; what it comes too late by is how long others could not run."""

    def __init__(self) -> None:
        self.longest = 0.0

    def run(self) -> None:
        before = time.monotonic()
        while True:
            gevent.sleep(TICK_SECONDS)
            now = time.monotonic()
            self.longest = max(self.longest, now - before - TICK_SECONDS)
            before = now


def _run_here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _wait_here(read: Any, write: Any = (), timeout: float | None = None) -> set[int]:
    """Block like a plain psycopg2 call, but for 2 s at most: the test wants an answer."""
    poll = monkey.get_original("select", "poll")()
    for fd in (*read, *write):
        poll.register(fd, 1 if fd in read else 4)
    limit = 2.0 if timeout is None else min(2.0, timeout)
    return {fd for fd, _ in poll.poll(limit * 1000)} or _wait(read, write, timeout)


def main() -> None:
    if os.environ.get("BREAK") == "install":
        waiting.run_blocking = _run_here
    if os.environ.get("BREAK") == "read":
        waiting.wait_any = _wait_here
        waiting.Watch.wait = lambda self, wanted, timeout: _wait_here(wanted, (), timeout)  # type: ignore[method-assign]
    ticker = Ticker()
    gevent.spawn(ticker.run)
    stdin = FileObjectThread(sys.stdin.fileno())
    events.start(app)
    for _ in iter(stdin.readline, b""):
        with app.test_client() as client:
            status = client.get("/pgevents/health").json["status"]  # type: ignore[index]
        print(json.dumps({"longest": ticker.longest, "status": status}), flush=True)
        ticker.longest = 0.0


if __name__ == "__main__":
    main()
