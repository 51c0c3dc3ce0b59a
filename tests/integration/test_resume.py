"""A client that comes back gets every change after its cursor, once and in order, or is told plainly that it cannot."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from websocket import WebSocket, create_connection

from tests.fixtures.chance import SEED, seeded
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.watchers import CHANGES, Item
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]


class Sse:
    """A stream, by header or by query."""

    def __init__(self, site: Site, since: str | None, chance: random.Random) -> None:
        by_header = chance.random() < 0.5
        query = "table=orders" + (f"&lastEventId={since}" if since and not by_header else "")
        self.stream = site.stream(query, **({"Last_Event_ID": since} if since and by_header else {}))

    def __iter__(self) -> Iterator[Item]:
        return (Item(frame.name, frame.id, frame.data) for frame in self.stream)

    def close(self) -> None:
        self.stream.close()


class Ws:
    """A subscription on a socket of its own."""

    def __init__(self, site: Site, since: str | None, chance: random.Random) -> None:
        self.socket: WebSocket = create_connection(
            f"ws://127.0.0.1:{site.port}/pgevents/ws", timeout=30, skip_utf8_validation=True
        )
        self.socket.send(json.dumps({"type": "subscribe", "ref": "1", "table": "orders", "since": since}))

    def __iter__(self) -> Iterator[Item]:
        while True:
            data = json.loads(self.socket.recv())
            yield Item(data["type"], data.get("cursor", ""), data)

    def close(self) -> None:
        self.socket.close()


TRANSPORTS = (Sse, Ws)


def open_shop(make_shop: MakeShop, **settings: Any) -> Shop:
    shop = make_shop(**settings)
    shop.events.expose(shop.Order, columns=["id", "status"], public=True)
    return shop.up()


def truth(database: Database) -> list[str]:
    return [str(row[0]) for row in database.execute("SELECT id FROM pgevents.log ORDER BY id")]


def read(source: Any, missing: set[str], most: int) -> list[Item]:
    """Read `most` changes, or fewer once nothing is missing."""
    got: list[Item] = []
    for item in source:
        assert item.name not in ("gap", "bye", "error"), item
        if item.name in CHANGES:
            got.append(item)
            missing.discard(item.data["id"])
            if not missing or len(got) == most:
                return got
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("history", [0, 16_000_000], ids=["from the log", "from memory"])
def test_a_client_that_stumbles_through_everything_misses_nothing(
    make_shop: MakeShop, serve: Serve, database: Database, history: int
) -> None:
    """Both transports, two processes (two listeners with snapshots of their own), cut off anywhere."""
    chance = seeded(history)
    settings = {"PGEVENTS_HISTORY_BYTES": history, "PGEVENTS_MAX_BATCH_EVENTS": 7}
    sites = [serve(open_shop(make_shop, **settings).app) for _ in range(2)]
    first = Sse(sites[0], None, chance)
    start = next(iter(first)).cursor
    first.close()
    writers = [threading.Thread(target=write, args=(database, SEED + n)) for n in range(4)]
    for writer in writers:
        writer.start()
    got: list[Item] = []
    since = start
    while any(writer.is_alive() for writer in writers) or missing(database, got):
        source = chance.choice(TRANSPORTS)(chance.choice(sites), since, chance)
        ready = next(iter(source))
        assert ready.name == "ready"
        assert ready.data["resumed"] is True, (since, ready, next(iter(source)))
        if absent := missing(database, got):
            got += read(source, absent, chance.choice((1, 2, 5, 40)))
            since = got[-1].cursor
        source.close()
    ids = [item.data["id"] for item in got]
    assert sorted(ids, key=int) == truth(database)
    versions: dict[int, int] = {}
    for item in got:
        if item.data["row"]:
            key, version = item.data["pk"]["id"], int(item.data["row"]["status"])
            assert version > versions.get(key, -1), "a row's changes came out of order"
            versions[key] = version


def missing(database: Database, got: list[Item]) -> set[str]:
    return set(truth(database)) - {item.data["id"] for item in got}


def write(database: Database, seed: int) -> None:
    """Transactions of 1 to 30 changes on few rows, some with pauses, some rolled back."""
    chance = random.Random(seed)
    connection = database.connect(autocommit=False)
    cursor = connection.cursor()
    for _ in range(25):
        for key in sorted({chance.randrange(8) for _ in range(chance.choice((1, 1, 3, 8)))}):
            cursor.execute(
                "INSERT INTO orders (id, status) VALUES (%s, '0')"
                " ON CONFLICT (id) DO UPDATE SET status = (orders.status::int + 1)::text",
                [key],
            )
            if chance.random() < 0.1:
                cursor.execute("SELECT pg_sleep(%s)", [chance.random() / 20])
        connection.rollback() if chance.random() < 0.15 else connection.commit()
    connection.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("history", [0, 64_000_000], ids=["from the log", "from memory"])
def test_in_the_middle_of_ten_thousand_rows(
    make_shop: MakeShop, serve: Serve, database: Database, transport: Any, history: int
) -> None:
    shop = open_shop(make_shop, PGEVENTS_HISTORY_BYTES=history, PGEVENTS_MAX_QUEUE_BYTES=50_000_000)
    site, chance = serve(shop.app), random.Random(1)
    source = transport(site, None, chance)
    assert next(iter(source)).name == "ready"
    database.execute("INSERT INTO orders SELECT n, 'open' FROM generate_series(1, 10000) AS n")
    items = read(source, {"never"}, 4321)
    source.close()
    again = transport(site, items[-1].cursor, chance)
    rest = read(again, missing(database, items), 20_000)
    again.close()
    assert [item.data["id"] for item in items + rest] == truth(database)
    assert [item.data["last"] for item in items + rest].count(True) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("since", "reason"),
    [
        ("nonsense", "cursor"),
        ("0123456789ab~1:1:", "epoch"),
        ("{epoch}~1:99999999999:", "cursor"),
        ("{epoch}~5:3:", "cursor"),
        ("{epoch}~3:99999999999:1.1~3:99999999999:~7", "cursor"),
        ("{epoch}~{here}~{here}~123456789", "retention"),
    ],
)
def test_what_cannot_be_resumed_is_a_gap(
    make_shop: MakeShop, serve: Serve, database: Database, transport: Any, since: str, reason: str
) -> None:
    site, chance = serve(open_shop(make_shop).app), random.Random(2)
    source = transport(site, None, chance)
    begun = iter(source)
    epoch, here = next(begun).cursor.split("~")
    database.execute("INSERT INTO orders VALUES (0, 'open')")
    assert next(begun).name == "insert"  # from here on positions of the beginning are old
    source.close()
    again = transport(site, since.replace("{epoch}", epoch).replace("{here}", here), chance)
    items = iter(again)
    ready, gap = next(items), next(items)
    assert (ready.name, ready.data["resumed"]) == ("ready", reason == "retention")
    assert (gap.name, gap.data["reason"]) == ("gap", reason)
    database.execute("INSERT INTO orders VALUES (1, 'open')")
    assert next(items).name == "insert"
    again.close()


def test_a_socket_goes_on_with_others_while_one_catches_up(
    make_shop: MakeShop, serve: Serve, database: Database
) -> None:
    shop = open_shop(make_shop, PGEVENTS_HISTORY_BYTES=0, PGEVENTS_MAX_BATCH_EVENTS=10)
    site, chance = serve(shop.app), random.Random(3)
    source = Ws(site, None, chance)
    since = next(iter(source)).cursor
    source.close()
    database.execute("INSERT INTO orders SELECT n, 'open' FROM generate_series(1, 300) AS n")
    socket = create_connection(f"ws://127.0.0.1:{site.port}/pgevents/ws", timeout=30, skip_utf8_validation=True)
    socket.send(json.dumps({"type": "subscribe", "ref": "new", "table": "orders", "events": ["delete"]}))
    socket.send(json.dumps({"type": "subscribe", "ref": "old", "table": "orders", "since": since}))
    socket.send('{"type": "ping"}')
    seen: list[tuple[str, str | None]] = []
    deleted = False
    while len([name for name, ref in seen if ref == "old"]) < 302:
        data = json.loads(socket.recv())
        seen.append((data["type"], data.get("ref")))
        if data["type"] == "pong" and not deleted:
            database.execute("DELETE FROM orders WHERE id = 300")
            deleted = True
    socket.close()
    assert [name for name, ref in seen if ref == "old"] == ["ready", *["insert"] * 300, "delete"]
