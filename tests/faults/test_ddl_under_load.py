"""DDL under load: somebody changes the table while programs write it and browsers watch it. No writer ever fails."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import psycopg2
import pytest

from pgevents_push.event import TableName
from tests.faults import writers
from tests.faults.checker import PERFECT
from tests.faults.everybody import KILL, fill, last_insert
from tests.faults.follower import Follower
from tests.faults.probes import Threads, until
from tests.faults.soak_checker import LOG, Logged, verdict_of
from tests.faults.soak_clients import Client
from tests.fixtures import programs
from tests.fixtures.capture import installer
from tests.fixtures.postgres import Database, Server, fresh_database
from tests.fixtures.servers import Serving, serving

LOAD = writers.Load(seed=3, table="orders", writers=4, longest_seconds=0.05)
# Each must get the table's strongest lock, for a moment.
ALTERATIONS = [
    "ADD COLUMN extra text",
    "ADD COLUMN filled text NOT NULL DEFAULT repeat('x', 100)",
    "ADD COLUMN counted int GENERATED ALWAYS AS (version * 2) STORED",
    "RENAME COLUMN extra TO renamed",
    "DROP COLUMN renamed",
    "DROP COLUMN counted",
    "ALTER COLUMN version TYPE bigint",
    "ALTER COLUMN id TYPE numeric",
    "ALTER COLUMN id TYPE bigint",
    "RENAME COLUMN status TO condition",
    "RENAME COLUMN condition TO status",
    "DROP CONSTRAINT orders_pkey, ADD CONSTRAINT another PRIMARY KEY (id)",
    "SET (fillfactor = 50)",
]


@pytest.fixture(scope="module")
def filled(server: Server) -> Iterator[Database]:
    with fresh_database(server) as database:
        yield fill(database)


@pytest.fixture(scope="module")
def served(filled: Database) -> Iterator[Serving]:
    with serving("gevent", filled.url) as server:
        yield server


def alter(database: Database, sql: str) -> None:
    """Take the table for a moment, as a careful migration does: rather try again than hold up everybody."""
    ends = time.monotonic() + 60
    while True:
        try:
            database.execute(f"SET lock_timeout = 300; {sql}")
            return
        except psycopg2.errors.LockNotAvailable:
            assert time.monotonic() < ends, sql


def hear_some(follower: Client) -> None:
    """Wait for some writes."""
    heard = len(follower.changes)
    assert until(lambda: len(follower.changes) > heard + 5, 60)


def test_columns_come_and_go(filled: Database, served: Serving) -> None:
    """No writer fails, and whoever reads gets each change once and in order, or the word that the columns changed."""
    follower = Client("ddl", served.ports[0], ["orders"])
    follower.calm.set()  # it comes back only when the server hangs up
    threads = Threads(errors := list[str]())
    threads.start(follower.run)
    assert follower.ready.wait(60)
    with writers.writing(filled.connect, LOAD) as counts:
        for alteration in ALTERATIONS:
            alter(filled, f"ALTER TABLE orders {alteration}")
            hear_some(follower)
    last = int(last_insert(filled, 50_001))
    assert until(lambda: follower.has_lately(last), 60), (errors, served.output())
    threads.end()
    assert not errors
    assert not follower.errors
    assert counts["committed"] > 5 * len(ALTERATIONS)
    log = [Logged(*row) for row in filled.execute(LOG)]
    assert verdict_of(log, follower, whole=True) == PERFECT
    assert {gap.split()[0] for gap in follower.gaps} == {"schema"}, "what was shown got other names and types"
    assert {key for change in follower.changes for key in change["row"]} <= {"id", "status", "version"}


# What takes the trigger away, and what puts a table without it there again.
LOSSES = {
    "disabled": ("ALTER TABLE orders DISABLE TRIGGER USER", ""),
    "dropped": ("DROP TABLE orders", programs.SCHEMA.split(";")[0]),
    "replaced": (f"ALTER TABLE orders RENAME TO orders_old; {programs.SCHEMA.split(';')[0]}", ""),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_table_that_is_not_captured_for_a_while(filled: Database, served: Serving, loss: str) -> None:
    """Writers meet nothing but a table that is not there. Whoever was connected, to either worker, and whoever comes
    back later, is told; and who watches another table hears of no gap."""
    take_away, put_back = LOSSES[loss]
    number = 60_000 + 1000 * list(LOSSES).index(loss)
    with ExitStack() as stack:
        connected = in_each_worker(stack, served)
        other = Follower(served.ports[0], "Order Line")
        other.sock.close()
        away = last_seen(filled, connected[0], number)
        with inserting(filled, number + 1) as met:
            filled.execute(take_away)
            time.sleep(0.2)
            if put_back:
                filled.execute(put_back)
            filled.execute(KILL)  # whoever reconnects looks after the triggers at once
            assert until(lambda: captured(filled), 60), served.output()
        assert set(met) <= {"inserted", "42P01"}
        for client in connected:
            client.until_told()
    # Who was told in the stream is behind the gap already.
    told = [["schema"], [] if connected[-1].reasons else ["schema"]]
    for at, since in enumerate((away, connected[-1].cursor)):
        with Follower(served.ports[0], since=since) as late:
            last_seen(filled, late, number + 998 + at)
            assert late.reasons == told[at]
    with Follower(served.ports[0], "Order Line", since=other.cursor) as late:
        filled.execute('INSERT INTO "Order Line" VALUES (%s, 1)', number)
        while not late.changes:
            assert late.read()
        assert not late.reasons
    filled.execute("DROP TABLE IF EXISTS orders_old")


def in_each_worker(stack: ExitStack, served: Serving) -> list[Follower]:
    """Connect until each worker has a client: the kernel may give many in a row to one."""
    connected: list[Follower] = []
    while {client.process for client in connected} != served.pids:
        assert len(connected) < 200, "one worker takes everybody"
        connected.append(stack.enter_context(Follower(served.ports[0])))
    return connected


def captured(database: Database) -> bool:
    return installer(database).status([TableName("public", "orders")]).complete


def last_seen(database: Database, follower: Follower, number: int) -> str:
    """Commit one more row and wait for it; return the position behind it."""
    database.execute("INSERT INTO orders (id) VALUES (%s)", number)
    follower.until_key(number)
    return follower.cursor


@contextmanager
def inserting(database: Database, number: int) -> Iterator[Counter[str]]:
    """A program that inserts all the time; yields how its statements ended."""
    met, ids, stop = Counter[str](), count(number), threading.Event()

    def run() -> None:
        connection = database.connect()
        while not stop.wait(0.005):
            try:
                connection.cursor().execute("INSERT INTO orders (id) VALUES (%s)", [next(ids)])
                met["inserted"] += 1
            except psycopg2.Error as error:
                met[str(error.pgcode)] += 1

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield met
    finally:
        stop.set()
        thread.join(60)
    assert met["inserted"]
