"""S2 to S5 by rows: each tenant sees its own, whatever is written, and of what leaves it no more than that it left."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import pytest

from pgevents_push.transports.rights import SubscriptionRequest
from tests.fixtures.chance import SEED
from tests.fixtures.house import House
from tests.fixtures.postgres import Database
from tests.fixtures.servers import Serving
from tests.fixtures.watch import Watch, canary
from tests.fixtures.web import Site, Stream
from tests.fixtures.ws_client import StrictClient

TENANTS, SUBSCRIBERS, WRITES = 20, 5, 4000
FENCE = 10**9
Change = dict[str, Any]


class Replica(threading.Thread):
    """What one subscriber believes to be in the table."""

    def __init__(self, tenant: int, changes: Iterator[Change], close: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.tenant, self._changes, self.close = tenant, changes, close
        self.rows: dict[int, str] = {}
        self.problems: list[str] = []
        self.start()

    def run(self) -> None:
        for change in self._changes:
            number, old = change["pk"]["id"], (change.get("old_pk") or {}).get("id")
            if set(re.findall(r"tenant-(\d+)-", str(change))) - {str(self.tenant)}:
                self.problems.append(f"{self.tenant} was shown {change}")
            known = (number if old is None else old) in self.rows
            if (change["type"] == "insert") is known:
                self.problems.append(f"{change['type']} of {number}, known: {known}")
            if old is not None:
                self.rows.pop(old, None)
            if change["type"] == "delete":
                self.rows.pop(number, None)
            else:
                self.rows[number] = change["row"]["title"]
            if number == FENCE + self.tenant:
                return


def over_sse(port: int, tenant: int) -> Replica:
    stream = Stream(port, "/pgevents/stream?table=tenants", {"X-User": str(tenant)})
    assert stream.response.status == 200
    stream.next("ready")
    kinds = ("insert", "update", "delete")
    return Replica(tenant, ({**f.data, "type": f.name} for f in stream if f.name in kinds), stream.close)


def over_websocket(port: int, tenant: int) -> Replica:
    client = StrictClient(port, headers=f"X-User: {tenant}\r\n")
    assert client.subscribe(table="tenants")["type"] == "ready"
    messages: Iterable[Change] = iter(client.message, None)
    return Replica(tenant, (m for m in messages if m["type"] not in ("sync", "pong")), client.close)


def write(database: Database, seed: int) -> None:
    """Insert, change, move between tenants, rename and delete rows, some of it rolled back; each title names its
    tenant, each secret is a canary."""
    chance, alive = random.Random(seed), list[int]()
    connection = database.connect(autocommit=False)
    cursor, fresh = connection.cursor(), 0
    for _ in range(WRITES):
        tenant, kind = chance.randrange(TENANTS), chance.random()
        values = [tenant, f"tenant-{tenant}-{chance.random()}", canary("secret")]
        before = list(alive)
        if kind < 0.4 or not alive:
            fresh += 1
            alive.append(fresh)
            cursor.execute("INSERT INTO tenants VALUES (%s, %s, %s, %s)", [fresh, *values])
        elif kind < 0.75:
            cursor.execute(
                "UPDATE tenants SET tenant = %s, title = %s, secret = %s WHERE id = %s", [*values, chance.choice(alive)]
            )
        elif kind < 0.85:
            fresh += 1
            old = alive.pop(chance.randrange(len(alive)))
            alive.append(fresh)
            cursor.execute(
                "UPDATE tenants SET id = %s, tenant = %s, title = %s, secret = %s WHERE id = %s", [fresh, *values, old]
            )
        else:
            cursor.execute("DELETE FROM tenants WHERE id = %s", [alive.pop(chance.randrange(len(alive)))])
        if chance.random() < 0.1:
            connection.rollback()
            alive = before
        else:
            connection.commit()
    for tenant in range(TENANTS):
        cursor.execute("INSERT INTO tenants VALUES (%s, %s, '', '')", [FENCE + tenant, tenant])
    connection.commit()


@pytest.mark.slow
def test_s03_each_of_many_tenants_sees_its_rows_and_no_others(
    serve_doors: Callable[..., Serving], database: Database, watch: Watch
) -> None:
    port = watch.front(serve_doors("gevent", workers=1).ports[0])
    print(f"FAULTS_SEED={SEED}")
    with ExitStack() as stack:
        replicas = [
            (over_websocket if number == 0 else over_sse)(port, tenant)
            for tenant in range(TENANTS)
            for number in range(SUBSCRIBERS)
        ]
        for replica in replicas:
            stack.callback(replica.close)
        write(database, SEED)
        for replica in replicas:
            replica.join(60)
            assert not replica.is_alive(), f"tenant {replica.tenant} misses something"
    for replica in replicas:
        truth = dict(database.execute("SELECT id, title FROM tenants WHERE tenant = %s", replica.tenant))
        assert replica.problems == []
        assert replica.rows == truth


# --- One by one, in a house


def of_the_tenant(asked: SubscriptionRequest) -> Any:
    return asked.identity is not None and asked.c.tenant == int(asked.identity)


@pytest.fixture
def site(house: House) -> Site:
    house.sql("CREATE TABLE tenants (id int PRIMARY KEY, tenant int, title text, secret text)")
    house.events.identify(house.user)
    house.events.expose("tenants", columns=["id", "title"], authorize=of_the_tenant)
    house.events.expose("docs", columns=["id"], public=True)
    return house.open()


def test_s04_nobody_hears_of_the_deletes_of_others(site: Site, house: House, watch: Watch) -> None:
    house.sql("INSERT INTO tenants SELECT n, 1, %s, 'x' FROM generate_series(1, 20) AS n", canary("foreign"))
    stream = site.stream("table=tenants,docs", X_User="2")
    stream.next("ready")
    watch.bytes.clear()
    house.sql("DELETE FROM tenants WHERE id <= 10")
    house.sql("TRUNCATE docs; DELETE FROM tenants")
    frames = [stream.next("truncate", "insert", "update", "delete")]
    assert [frame.name for frame in frames] == ["truncate"]
    assert b"tenants" not in watch.bytes


def test_s05_what_leaves_is_a_delete_with_its_key_and_nothing_of_what_it_became(
    site: Site, house: House, connect: Callable[..., StrictClient]
) -> None:
    stream, socket = site.stream("table=tenants", X_User="2"), connect(site, headers="X-User: 2\r\n")
    stream.next("ready")
    socket.subscribe(table="tenants")
    house.sql("INSERT INTO tenants VALUES (1, 1, %s, 'x')", canary("not yet"))
    house.sql("UPDATE tenants SET tenant = 2, title = 'mine', secret = %s", canary("secret"))
    house.sql("UPDATE tenants SET title = 'still mine'")
    house.sql("UPDATE tenants SET tenant = 1, title = %s", canary("no longer"))
    house.sql("UPDATE tenants SET title = %s, id = 5", canary("elsewhere"))
    house.sql("UPDATE tenants SET tenant = 2, title = 'back'")
    house.sql("UPDATE tenants SET id = 6, tenant = 3, title = %s", canary("renamed and gone"))
    seen = [(frame.name, frame.data["pk"]["id"], frame.data["row"]) for frame in stream.changes(5)]
    assert seen == [
        ("insert", 1, {"id": 1, "title": "mine"}), ("update", 1, {"id": 1, "title": "still mine"}),
        ("delete", 1, None), ("insert", 5, {"id": 5, "title": "back"}), ("delete", 5, None),
    ]  # fmt: skip
    changes = (m for m in iter(socket.message, None) if m["type"] != "sync")
    assert [(m["type"], m["pk"]["id"], m["row"]) for m in (next(changes) for _ in seen)] == seen


HIDDEN = [
    "{column}=eq.a", "{column}=is.null", "{column}=not.in.(1,2)", "and=({column}.eq.a,id.eq.1)",
    "or=(id.eq.1,not.and({column}.gt.5,id.lt.3))",
    '"{column}"=eq.a', "tenants.{column}=eq.1",
]  # fmt: skip


@pytest.mark.parametrize("text", HIDDEN)
@pytest.mark.parametrize("column", ["secret", "tenant"])
def test_s02_a_filter_on_a_hidden_column_is_one_on_a_column_that_is_not_there(
    site: Site, house: House, column: str, text: str, connect: Callable[..., StrictClient]
) -> None:
    """Also on the one that the rights compare: else its values could be asked for one after the other."""

    def answers(name: str) -> list[str]:
        filter_ = text.format(column=name)
        refused = site.ask(f"/pgevents/stream?table=tenants&filter={quote(filter_)}", X_User="2")
        said = connect(site, headers="X-User: 2\r\n").subscribe(
            table="tenants", filter=filter_.removeprefix("tenants.")
        )
        return [str(refused.status), refused.body.decode().replace(name, "…"), str(said).replace(name, "…")]

    assert answers(column) == answers("nosuch")
    assert answers(column)[0] == "400"
    assert house.inside() <= 4  # the sockets


def test_s03_rights_that_cannot_be_judged_deny(house: House) -> None:
    house.events.expose("docs", columns=["id"], authorize=lambda asked: asked.c.title.op("~")("x"))
    site = house.open()
    assert site.ask("/pgevents/stream?table=docs").status == 403
    assert house.runtime().gate.counts["unsupported_rights"] == 1
