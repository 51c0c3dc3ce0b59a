"""A program that listens and hands on every change, as a worker does, until it is ended; says when it listens."""

from __future__ import annotations

import sys

from psycopg2.extensions import parse_dsn

from pgevents_push import waiting
from pgevents_push.listener import Ears, Listener, Pulse


def main(dsn: str) -> None:
    ears = Ears(
        dsn=parse_dsn(dsn), prepare=lambda: None, on_batch=lambda batch: None, on_lost=lambda: None,
        on_round=lambda: None, poll_seconds=1.0, heartbeat_seconds=15.0, timeout_seconds=10.0, max_batch_events=1000,
        watched=lambda table: False,
    )  # fmt: skip
    Listener(ears, Pulse(lambda status, error: print(status, flush=True))).start()
    while True:
        waiting.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1])
