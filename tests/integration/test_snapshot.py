"""Snapshot and live: the rows of one moment, and from there on each change once, over both transports."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.fixtures.chance import SEED
from tests.fixtures.joined import TRANSPORTS, Replica, Serve, follow
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.web import Site


def open_shop(make_shop: MakeShop, **settings: Any) -> Shop:
    shop = make_shop(**settings)
    shop.events.expose(shop.Order, public=True)
    shop.events.expose(shop.Line, public=True)
    return shop.up()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("history", [0, 16_000_000], ids=["from the log", "from memory"])
def test_rows_and_changes_join_exactly(
    make_shop: MakeShop, serve: Serve, database: Database, transport: Any, history: int
) -> None:
    """Eight writers that insert, update, delete, roll back and stay open; each join is checked row by row, and in the
    end against SQL. The rows take several chunks, so that most are sent while the writers go on."""
    joins = int(os.environ.get("PGEVENTS_JOINS", 10))
    print(f"FAULTS_SEED={SEED}")
    shop = open_shop(make_shop, PGEVENTS_HISTORY_BYTES=history, PGEVENTS_MAX_QUEUE_BYTES=20_000_000)
    site = serve(shop.app)
    database.execute("INSERT INTO orders SELECT n, repeat('0', 100), 0 FROM generate_series(100, 1500) AS n")
    for round_ in range(joins // 10):
        check_joins(database, site, transport, f"{SEED}/{round_}")


def check_joins(database: Database, site: Site, transport: Any, seed: str) -> None:
    """Ten clients that come one after the other while the writers go on; then what each holds is compared."""
    with ExitStack() as stack:
        replicas: list[tuple[Replica, Any]] = []
        with writing_rows(database, seed):
            for _ in range(10):
                replica, source = Replica(), transport(site)
                stack.callback(source.close)
                follow(replica, source, lambda seen: len(seen.events) > 20)
                replicas.append((replica, source))
        [(last,)] = database.execute("SELECT max(id) FROM pgevents.log")
        rows = database.execute("SELECT row_to_json(t) FROM orders AS t")
        truth = {json.dumps({"id": row["id"]}): row for (row,) in rows}
        log = [str(row[0]) for row in database.execute("SELECT id FROM pgevents.log WHERE table_name = 'orders'")]
        for replica, source in replicas:
            follow(replica, source, lambda seen: str(last) in seen.events)
            assert replica.complaints == []
            assert replica.rows == truth
            assert set(replica.events) <= set(log)
            assert replica.ready is not None
            assert replica.ready.data["resumed"] is False
        assert len({replica.events[0] for replica, _ in replicas}) > 5, "they all began at the same moment"


@contextmanager
def writing_rows(database: Database, seed: str) -> Iterator[None]:
    """Write orders in every awkward way during the block."""
    writers = [OrderWriter(database, f"{seed}/{n}") for n in range(8)]
    for writer in writers:
        writer.thread.start()
    try:
        yield
    finally:
        for writer in writers:
            writer.stop.set()
            writer.thread.join(30)
    assert [writer.error for writer in writers] == [None] * 8
    database.execute("DELETE FROM orders WHERE id = 0")
    database.execute("INSERT INTO orders (id) VALUES (0)")


class OrderWriter:
    """One connection that writes until told to stop."""

    def __init__(self, database: Database, seed: str) -> None:
        self._connection = database.connect(autocommit=False)
        self._chance = random.Random(seed)
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        connection, chance = self._connection, self._chance
        try:
            while not self.stop.is_set():
                for key in sorted({chance.randrange(90, 130) for _ in range(chance.choice((1, 1, 2, 5)))}):
                    self._change(connection.cursor(), key, chance)
                connection.rollback() if chance.random() < 0.15 else connection.commit()
                self.stop.wait(0.02)
        except BaseException as error:
            self.error = error

    def _change(self, cursor: Any, key: int, chance: random.Random) -> None:
        cursor.execute("SAVEPOINT s")
        if chance.random() < 0.3:
            cursor.execute("DELETE FROM orders WHERE id = %s", [key])
        else:
            cursor.execute(
                "INSERT INTO orders VALUES (%s, 'new', 0)"
                " ON CONFLICT (id) DO UPDATE SET total = orders.total + 1, status = 'v' || orders.total",
                [key],
            )
        if chance.random() < 0.1:
            cursor.execute("ROLLBACK TO SAVEPOINT s")
        if chance.random() < 0.1:
            cursor.execute("SELECT pg_sleep(%s)", [chance.random() / 5])
