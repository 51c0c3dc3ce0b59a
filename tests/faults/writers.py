"""Writers: eight connections that update few rows in every awkward way, until told to stop.

Each row carries a version that its update raises by one, so what the rows hold in the end is a truth that does
not come from the log.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2

ROWS = 12
SCHEMA = f"""
CREATE TABLE counter (id int PRIMARY KEY, version int NOT NULL DEFAULT 0);
INSERT INTO counter SELECT generate_series(1, {ROWS})
"""


@dataclass(frozen=True)
class Load:
    """What the writers do.

    :param table: has the columns id (the rows 1 to ROWS) and version.
    :param long_share: the share of transactions that wait up to `longest_seconds` before each statement.
    """

    seed: int
    table: str = "counter"
    writers: int = 8
    long_share: float = 0.08
    longest_seconds: float = 0.4
    rollback_share: float = 0.1
    savepoint_share: float = 0.25


class Writer:
    """One connection's life."""

    def __init__(self, number: int, connect: Callable[[], Any], load: Load) -> None:
        self.counts: Counter[str] = Counter()
        self.error: Exception | None = None
        self._connect = connect
        self._load = load
        self._chance = random.Random(f"{load.seed}/{number}")

    def run(self, stop: threading.Event) -> None:
        connection = self._connect()
        connection.autocommit = False
        try:
            while not stop.is_set():
                self._transaction(connection)
        except psycopg2.Error as error:
            self.error = error
        finally:
            connection.close()

    def _transaction(self, connection: Any) -> None:
        # Rows in one order: no deadlocks.
        rows = sorted(self._chance.sample(range(1, ROWS + 1), self._chance.randint(1, 4)))
        is_long = self._chance.random() < self._load.long_share
        with connection.cursor() as cursor:
            for row in rows:
                if is_long:
                    time.sleep(self._chance.uniform(0, self._load.longest_seconds))
                self._update(cursor, row)
        if self._chance.random() < self._load.rollback_share:
            connection.rollback()
            self.counts["rolled back"] += 1
        else:
            connection.commit()
            self.counts["long" if is_long else "committed"] += 1

    def _update(self, cursor: Any, row: int) -> None:
        update = f"UPDATE {self._load.table} SET version = version + 1 WHERE id = %s"
        if self._chance.random() >= self._load.savepoint_share:
            cursor.execute(update, [row])
            return
        cursor.execute("SAVEPOINT s")
        cursor.execute(update, [row])
        if self._chance.random() < 0.5:
            cursor.execute("ROLLBACK TO SAVEPOINT s")
            self.counts["taken back"] += 1
        else:
            cursor.execute("RELEASE SAVEPOINT s")
            self.counts["released"] += 1


@contextmanager
def writing(connect: Callable[[], Any], load: Load) -> Iterator[Counter[str]]:
    """Write during the block; when it ends, every writer has finished its transaction.

    :param connect: returns a new connection.
    :raises AssertionError: a writer failed: capture must never do that to it.
    """
    stop, counts = threading.Event(), Counter[str]()
    writers = [Writer(number, connect, load) for number in range(load.writers)]
    threads = [threading.Thread(target=writer.run, args=[stop], daemon=True) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    for writer in writers:
        counts.update(writer.counts)
    assert [writer.error for writer in writers] == [None] * load.writers
