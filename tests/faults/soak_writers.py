"""Writers of the soak: threads that change five tables in every way that SQL has, and survive the server's death."""

from __future__ import annotations

import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg2

# The tables, and what of them is shown: never a column that comes and goes, which would be a gap.
TABLES: dict[str, Any] = {"item": ["id", "n", "note"], "child": "*", "part": "*", "pair": ["id", "n"], "probe": "*"}
ROWS = 20
SCHEMA = f"""
CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, note text, secret text DEFAULT 'canary');
CREATE TABLE child (id int PRIMARY KEY, item_id int REFERENCES item ON DELETE CASCADE ON UPDATE CASCADE,
                    n int NOT NULL DEFAULT 0);
CREATE TABLE part (id int, region text, n int NOT NULL DEFAULT 0, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
CREATE TABLE part_us PARTITION OF part FOR VALUES IN ('us');
CREATE TABLE pair (id int PRIMARY KEY DEFERRABLE, n int NOT NULL DEFAULT 0);
CREATE TABLE probe (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
INSERT INTO pair SELECT generate_series(1, {ROWS})
"""
LONGEST_SECONDS = 0.4
# What writers may meet without our doing: a deadlock, a lock that took too long, keys that exist or are missing.
EXPECTED = {"40P01", "55P03", "23505", "23503", "57P01", "57P02", "57P03"}
# And this, 40001: who waits for a row that is changed and then moved in one transaction. So without our triggers, too.
MOVED = "was already moved to another partition"
_AGAIN_SECONDS = 0.1


def _upsert(cursor: Any, chance: random.Random) -> None:
    cursor.execute(
        "INSERT INTO item VALUES (%s, 0, %s) ON CONFLICT (id) DO UPDATE SET n = item.n + 1",
        [chance.randint(1, ROWS), chance.choice((None, "caf\u00e9 \u2713 \u0085\n", "x" * chance.randint(0, 3000)))],
    )


def _child(cursor: Any, chance: random.Random) -> None:
    parent = chance.randint(1, ROWS)
    cursor.execute("INSERT INTO item VALUES (%s) ON CONFLICT DO NOTHING", [parent])
    cursor.execute(
        "INSERT INTO child VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET n = child.n + 1, item_id = excluded.item_id",
        [chance.randint(1, ROWS * 3), parent],
    )


def _cascade(cursor: Any, chance: random.Random) -> None:
    cursor.execute("DELETE FROM item WHERE id = %s", [chance.randint(1, ROWS)])


def _key(cursor: Any, chance: random.Random) -> None:
    """Give an item another key, which its children follow."""
    cursor.execute(
        "UPDATE item SET id = %(new)s, n = n + 1 WHERE id = %(old)s"
        " AND NOT EXISTS (SELECT FROM item WHERE id = %(new)s)",
        {"old": chance.randint(1, ROWS), "new": chance.randint(1, ROWS)},
    )


def _swap(cursor: Any, chance: random.Random) -> None:
    a, b = sorted(chance.sample(range(1, ROWS + 1), 2))
    cursor.execute(
        "UPDATE pair SET n = n + 1, id = CASE id WHEN %(a)s THEN %(b)s ELSE %(a)s END WHERE id IN (%(a)s, %(b)s)",
        {"a": a, "b": b},
    )


def _move(cursor: Any, chance: random.Random) -> None:
    key = chance.randint(1, ROWS)
    cursor.execute("INSERT INTO part VALUES (%s, 'eu') ON CONFLICT DO NOTHING", [key])
    cursor.execute(
        "UPDATE part SET n = n + 1, region = CASE region WHEN 'eu' THEN 'us' ELSE 'eu' END WHERE id = %s"
        " AND (SELECT count(*) FROM part WHERE id = %s) = 1",
        [key, key],
    )


def _merge(cursor: Any, chance: random.Random) -> None:
    cursor.execute(
        "MERGE INTO part USING (SELECT generate_series(%s, %s) AS id) AS s ON part.id = s.id AND region = 'us'"
        " WHEN MATCHED AND part.n %% 3 = 2 THEN DELETE WHEN MATCHED THEN UPDATE SET n = part.n + 1"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'us', 0)",
        [low := chance.randint(1, ROWS), low + 3],
    )


def _copy(cursor: Any, chance: random.Random) -> None:
    first = chance.randrange(10**9)
    cursor.copy_expert("COPY probe FROM STDIN", io.StringIO("".join(f"{first + k}\t{k}\n" for k in range(30))))


def _many(cursor: Any, chance: random.Random) -> None:
    cursor.execute("UPDATE pair SET n = n + 1")


def _delete_many(cursor: Any, chance: random.Random) -> None:
    cursor.execute("DELETE FROM probe WHERE id IN (SELECT id FROM probe ORDER BY id LIMIT 20 FOR UPDATE SKIP LOCKED)")


def _truncate(cursor: Any, chance: random.Random) -> None:
    cursor.execute(f"TRUNCATE {chance.choice(('item CASCADE', 'part', 'probe'))}")


STATEMENTS = {
    _upsert: 10, _child: 6, _cascade: 3, _key: 3, _swap: 4, _move: 5, _merge: 3, _copy: 1, _many: 1,
    _delete_many: 2, _truncate: 0.3,
}  # fmt: skip


class Writer:
    """One connection's life. `counts` says what it did, `errors` holds what must not happen to a writer.

    :param two_phase: some transactions are prepared, and ended a moment later.
    """

    def __init__(self, name: str, connect: Callable[[], Any], two_phase: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._name, self._connect, self._two_phase = name, connect, two_phase
        self._chance = random.Random(name)

    def run(self, stop: threading.Event) -> None:
        connection = None
        while not stop.is_set():
            try:
                connection = connection or self._open()
                self._transaction(connection)
                self.counts["transactions"] += 1
            except psycopg2.Error as error:
                connection = self._after(error, connection)
        if connection is not None:
            connection.close()

    def _open(self) -> Any:
        connection = self._connect()
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 1000")
        connection.commit()
        return connection

    def _after(self, error: psycopg2.Error, connection: Any) -> Any:
        """Begin again, on another connection when this one is lost."""
        self.counts[error.pgcode or "connection lost"] += 1
        if error.pgcode and error.pgcode not in EXPECTED and MOVED not in str(error):
            self.errors.append(f"{error.pgcode} {error}")
        usable = connection is not None and not connection.closed and error.pgcode and error.pgcode[:2] != "57"
        if usable and not self._two_phase:  # psycopg2 takes no rollback in the middle of a two-phase transaction
            with suppress(psycopg2.Error):  # the server may die between its error and this
                connection.rollback()
                return connection
        if connection is not None:
            connection.close()
        time.sleep(_AGAIN_SECONDS)
        return None

    def _transaction(self, connection: Any) -> None:
        chance = self._chance
        longest = LONGEST_SECONDS if chance.random() < 0.08 else 0.0
        time.sleep(chance.random() * 0.06)
        two_phase = self._two_phase and chance.random() < 0.1
        if two_phase:
            connection.tpc_begin(connection.xid(0, f"{self._name}/{self.counts['transactions']}/{time.time_ns()}", ""))
        with connection.cursor() as cursor:
            for _ in range(chance.choice((1, 1, 2, 4))):
                self._statement(cursor)
                time.sleep(chance.random() * longest)
        self._end(connection, two_phase, longest)

    def _statement(self, cursor: Any) -> None:
        [statement] = self._chance.choices(list(STATEMENTS), list(STATEMENTS.values()))
        self.counts[statement.__name__] += 1
        if self._chance.random() >= 0.2:
            statement(cursor, self._chance)
            return
        cursor.execute("SAVEPOINT s")
        statement(cursor, self._chance)
        taken_back = self._chance.random() < 0.5
        self.counts["savepoints taken back"] += taken_back
        cursor.execute("ROLLBACK TO SAVEPOINT s" if taken_back else "RELEASE SAVEPOINT s")

    def _end(self, connection: Any, two_phase: bool, longest: float) -> None:
        commit = self._chance.random() > 0.12
        self.counts["committed" if commit else "rolled back"] += 1
        if not two_phase:
            (connection.commit if commit else connection.rollback)()
            return
        self.counts["two-phase"] += 1
        connection.tpc_prepare()
        time.sleep(self._chance.random() * longest)
        (connection.tpc_commit if commit else connection.tpc_rollback)()
