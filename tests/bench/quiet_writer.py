"""A program that commits one order each few milliseconds, and prints each one's number and when COMMIT returned."""

from __future__ import annotations

import random
import sys
import time

import psycopg2

FIRST_NUMBER = 1_000_000
WARM_UP = 100


def main(dsn: str, count: int) -> None:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    chance, lines = random.Random(1), []
    with connection.cursor() as cursor:
        for number in range(FIRST_NUMBER, FIRST_NUMBER + WARM_UP + count):
            cursor.execute("INSERT INTO orders (id) VALUES (%s)", [number])
            lines.append(f"{number} {time.time()!r}")
            time.sleep(chance.uniform(0.003, 0.008))
    connection.close()
    print("\n".join(lines[WARM_UP:]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
