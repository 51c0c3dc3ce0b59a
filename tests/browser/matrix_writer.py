"""The writer of the matrix: another program, which writes without a pause and comes back after errors."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg2

PAUSE_SECONDS = 0.03
SOME = "SELECT id FROM orders ORDER BY random() LIMIT 1"
INSERT = "INSERT INTO orders (customer, item) VALUES ('Writer & Söhne', '<Rope>')"
UPDATE = f"UPDATE orders SET quantity = quantity + 1 WHERE id = ({SOME})"
DELETE = f"DELETE FROM orders WHERE id = ({SOME}) AND (SELECT count(*) FROM orders) > 20"


class Writer(threading.Thread):
    """Inserts, updates and deletes orders from `start()` to `stop()`, one transaction after the other."""

    def __init__(self, connect: Callable[[], Any], seed: int) -> None:
        super().__init__()
        self._connect, self._chance = connect, random.Random(seed)
        self._ends = threading.Event()

    def run(self) -> None:
        while not self._ends.is_set():
            with suppress(psycopg2.Error), closing(self._connect()) as connection:
                connection.autocommit = False
                while not self._ends.wait(PAUSE_SECONDS):
                    self._write(connection)

    def _write(self, connection: Any) -> None:
        with connection, connection.cursor() as cursor:
            for _ in range(self._chance.choice((1, 1, 2, 4))):
                cursor.execute(self._chance.choices((INSERT, UPDATE, DELETE), (10, 9, 6))[0])

    def stop(self) -> None:
        self._ends.set()
        self.join()
