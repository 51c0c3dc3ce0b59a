"""A pooler in transaction mode between the app and PostgreSQL, whose connections die at both ends under load."""

from __future__ import annotations

import time

from tests.faults import writers
from tests.faults.everybody import CLIENTS, KILL, check_everybody, fill, last_insert
from tests.fixtures.clients import start_clients
from tests.fixtures.pooler import pgbouncer
from tests.fixtures.postgres import Database
from tests.fixtures.proxy import Proxy
from tests.fixtures.servers import serving

SECONDS = 4.0
LOAD = writers.Load(seed=9, table="orders", writers=3, longest_seconds=0.1)


def test_nobody_loses_a_change_behind_a_pooler(database: Database) -> None:
    fill(database)
    with pgbouncer(database, "transaction", pool_size=3) as pooled, Proxy(int(pooled.dsn["port"])) as proxy:
        url = f"postgresql+psycopg2://app@127.0.0.1:{proxy.port}/{database.name}"
        with (
            serving("gevent", url, wakeup="poll") as served,
            start_clients(served.ports, ["orders"], CLIENTS, CLIENTS) as clients,
        ):
            ends, cuts, kills = time.monotonic() + SECONDS, 0, 0
            with writers.writing(database.connect, LOAD):
                while time.monotonic() < ends:
                    cuts += proxy.cut()
                    kills += database.execute(KILL)[0][0]
                    time.sleep(0.4)
            reports = clients.until(last_insert(database, 999_999))
            assert check_everybody(database, served, reports) > 100
            assert cuts > 4
            assert kills > 4
            assert set(served.statuses().values()) == {"listening"}
