"""Replicas that are fed by nothing but what a client receives hold, at each quiet point, what PostgreSQL selects.

Random tables, filters, identities and writers; 200 tenants with 50 subscribers each at their mailboxes, some of them
with real sockets, over both transports, across resumes and killed listeners. No subscriber ever gets a byte that is
marked as another tenant's. `FAULTS_SEED` draws another run.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask import Flask, request

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import CHANGE_TYPES
from pgevents_push.extension import Runtime, snapshots
from pgevents_push.hub import View
from pgevents_push.listener import Connection, read_position
from pgevents_push.transports import resume, sse_format, ws_protocol
from pgevents_push.transports.request import TableRequest
from tests.fixtures.chance import seeded
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.replica import Replica, marks, sse_items, ws_items
from tests.fixtures.roles import role
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.tenants import CANARY, Filter, Tenants, Where, connect
from tests.fixtures.watchers import WATCHERS, Asked, Item, Watcher
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]
SETTINGS = {"PGEVENTS_HEARTBEAT_SECONDS": 0.2, "PGEVENTS_MAX_BATCH_EVENTS": 200}
WRITERS = 4
KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s"
)


def serving(make_shop: MakeShop, world: Tenants, as_role: str = "", **settings: Any) -> Shop:
    """Serve the table; who may see what is said by `authorize` or, to a role, by PostgreSQL itself."""

    def rights(subscription: Any) -> Any:
        return world.rights(request.headers["X-User"], subscription.c)

    def persona(subscription: Any) -> Any:
        return world.persona(request.headers["X-User"], as_role)

    shop = make_shop(**{**SETTINGS, **settings})
    who: dict[str, Any] = {"rls": persona} if as_role else {"authorize": rights}
    shop.events.expose(world.name, columns=world.columns, **who)
    return shop.register().start()


def write(world: Tenants, chance: random.Random, transactions: int) -> None:
    """Let all writers run, and wait until they are done."""
    seeds = [chance.random() for _ in range(WRITERS)]

    def run(seed: float) -> None:
        connection = connect(world.database)
        world.write(random.Random(seed), connection, transactions)

    threads = [threading.Thread(target=run, args=[seed]) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def position(database: Database) -> Snapshot:
    connection = Connection(database.dsn, 10)
    try:
        return read_position(connection.execute).snapshot
    finally:
        connection.close()


class Member:
    """A subscriber at its mailbox: gate, hub and encoders are the real ones, only the socket is missing."""

    def __init__(self, runtime: Runtime, world: Tenants, user: str, wanted: Filter, number: int) -> None:
        self.runtime, self.world, self.user, self.wanted = runtime, world, user, wanted
        self.where = world.may_see(user) & wanted.where
        self.sse = number % 2 == 0
        self.label = "" if self.sse else str(number % 7)
        self.replica = Replica()
        self.cursor: str | None = None
        self.join()

    def _view(self) -> View:
        asked = TableRequest(self.world.name, frozenset(CHANGE_TYPES), None, self.wanted.texts)
        with self.runtime.app.test_request_context(headers={"X-User": self.user}):
            opened = self.runtime.gate.open(asked, "sse" if self.sse else "websocket")
        return opened.view(sse_format.encode_json if self.sse else ws_protocol.encode_change, self.label)

    def join(self) -> None:
        """Subscribe, from where it was; what it missed comes a page at a time, as the couriers do it."""
        hub = self.runtime.hub
        view, since = self._view(), resume.parse_cursor(self.cursor)
        self.mailbox = hub.connect(10**8)
        reached = hub.subscribe(self.mailbox, [view], 10, since=since)
        assert reached is not None
        at = Cursor.parse(reached)
        assert resume.gap_reason(self.cursor, since, at, [view]) is None
        while since is not None and since != at:
            frames, since = resume.read_on(self.runtime.replay.page, since, at.snapshot, [view], hub)
            assert since is not None
            self._take(b"".join(frames))
        self.cursor = reached

    def drain(self) -> bool:
        """Take what is there; True when nothing waits for a judge either."""
        self._take(b"".join(self.mailbox.take(0)))
        return not self.mailbox.queued_bytes

    def leave(self) -> None:
        """What waits in the mailbox is lost; it comes again."""
        self.runtime.hub.disconnect(self.mailbox)

    def _take(self, raw: bytes) -> None:
        assert marks(raw) <= self.world.marks(self.user)
        assert CANARY.encode() not in raw
        for item in sse_items(raw) if self.sse else ws_items(raw):
            self.replica.take(item)
            self.cursor = item.cursor


def compare(world: Tenants, members: list[Member]) -> None:
    selected: dict[Where, Any] = {}
    for member in members:
        if member.where not in selected:
            selected[member.where] = world.select(member.where)
        assert not member.replica.stale
        assert member.replica.rows == selected[member.where], (member.user, member.wanted.texts)


def settle(runtime: Runtime, world: Tenants, members: list[Member]) -> None:
    """Wait until the process has handed on everything; then nothing may be missing anywhere."""
    target = position(world.database)
    wait_until(lambda: Cursor.parse(runtime.hub.cursor or "").snapshot.covers(target), 30)
    for member in members:
        wait_until(member.drain, 30)


def check_crowd(
    make_shop: MakeShop, database: Database, chance: random.Random, tenants: int, each: int, as_role: str = ""
) -> None:
    world = Tenants(database, chance, tenants)
    if as_role:
        world.secure(as_role)
    shop = serving(make_shop, world, as_role)
    runtime = shop.runtime
    filters = [world.filter() for _ in range(12)]
    members = [
        Member(runtime, world, world.user(tenant), chance.choice(filters), number)
        for tenant in range(tenants)
        for number in range(each)
    ]
    loaded: dict[Where, Any] = {member.where: world.select(member.where) for member in members}
    for member in members:
        member.replica.load(loaded[member.where])
    for _ in range(5):
        leaving = chance.sample(members, len(members) // 50)
        write(world, chance, 6)
        for member in leaving:
            member.leave()
        database.execute(KILL, database.name)
        write(world, chance, 6)
        for member in leaving:
            member.join()
        settle(runtime, world, members)
        compare(world, members)
    applied = sum(member.replica.applied for member in members)
    print(f"{len(members)} subscribers of {world.name} applied {applied} changes; {dict(runtime.hub.counts)}")
    assert applied > len(members) // 2  # how many are concerned is chance
    assert not runtime.hub.counts["unjudged"]


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_subscribers_hold_what_they_may_see(make_shop: MakeShop, database: Database) -> None:
    check_crowd(make_shop, database, seeded(), tenants=200, each=50)


@pytest.mark.parametrize("round_", range(6))
def test_random_tables_filters_and_identities(make_shop: MakeShop, database: Database, round_: int) -> None:
    check_crowd(make_shop, database, seeded(), tenants=5, each=30)


@pytest.mark.parametrize("round_", range(3))
def test_the_same_by_row_level_security(make_shop: MakeShop, database: Database, round_: int) -> None:
    with role(database, "web") as web:
        check_crowd(make_shop, database, seeded(), tenants=4, each=15, as_role=web)


# --- With sockets


class Browser:
    """A client with a socket in a thread of its own, which is cut off now and then and comes back anywhere."""

    ends: tuple[str, ...] = ("", "bye lost", "closed 1012")

    def __init__(self, ports: list[int], world: Tenants, user: str, wanted: Filter, seed: float) -> None:
        self.ports, self.world, self.user, self.wanted = ports, world, user, wanted
        self.where = world.may_see(user) & wanted.where
        self.chance = random.Random(seed)
        self.replica = Replica()
        self.cursor: str | None = None
        self.reloads = 0
        self.target: Snapshot | None = None
        self.reached = threading.Event()
        self.error: BaseException | None = None
        self._stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self._stopping = True
        self.thread.join(20)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._visit()
        except BaseException as error:  # the test raises it
            self.error = error
            self.reached.set()

    def _visit(self) -> None:
        kind: type[Watcher] = self.chance.choice(WATCHERS)
        asked = self._asked()
        watcher = kind(self.chance.choice(self.ports), asked)
        left = self.chance.choice([3, 20, 100])
        try:
            for item in watcher:
                self._take(item, watcher)
                left -= 1
                if self._stopping or (left <= 0 and self.target is None):
                    return
        finally:
            watcher.close()
            assert marks(bytes(watcher.raw)) <= self.world.marks(self.user)
            assert CANARY.encode() not in watcher.raw
            assert watcher.ended in self.ends, watcher.ended

    def _asked(self) -> Asked:
        return Asked(self.world.name, self.user, self.wanted.texts, since=self.cursor)

    def _take(self, item: Item, watcher: Watcher) -> None:
        self.replica.take(item)
        if item.name == "gap" or (item.name == "ready" and self.replica.stale):
            self.replica.load(self.world.select(self.where))
            self.reloads += 1
        self.cursor = watcher.cursor
        if self.target is not None and item.name == "sync" and Cursor.parse(item.cursor).snapshot.covers(self.target):
            self.reached.set()


def watch_browsers(world: Tenants, chance: random.Random, browsers: Sequence[Browser]) -> None:
    """Write, kill listeners, and compare at each quiet point; then stop the browsers."""
    try:
        for _ in range(4):
            write(world, chance, 10)
            world.database.execute(KILL, world.database.name)
            write(world, chance, 10)
            for browser in browsers:
                browser.reached.clear()
                browser.target = position(world.database)
            for browser in browsers:
                assert browser.reached.wait(30), "never told that nothing is missing"
                assert browser.error is None, browser.error
                assert browser.replica.rows == world.select(browser.where), (browser.user, browser.wanted.texts)
                browser.target = None
    finally:
        for browser in browsers:
            browser.stop()
    print(f"{sum(b.replica.applied for b in browsers)} changes, {sum(b.reloads for b in browsers)} reloads")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browsers_that_stumble_hold_what_they_may_see(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    chance = seeded()
    world = Tenants(database, chance, 6)
    sites = [serve(serving(make_shop, world, PGEVENTS_HISTORY_BYTES=size).app) for size in (0, 16_000_000)]
    ports = [site.port for site in sites]
    browsers = [Browser(ports, world, world.user(n % 6), world.filter(), chance.random()) for n in range(24)]
    watch_browsers(world, chance, browsers)
    assert all(browser.reloads == 1 for browser in browsers), "each gap would be a false one"


class ShownBrowser(Browser):
    """One that is shown the rows by the server instead of reading them: it never asks the database. It may leave in the
    middle of them, and sometimes forgets where it was."""

    ends = (*Browser.ends, "503")  # a socket stays, when the rows of one of its subscriptions were cut off
    shown = 0

    def _asked(self) -> Asked:
        if self.chance.random() < 0.6:
            self.cursor = None
        return Asked(self.world.name, self.user, self.wanted.texts, since=self.cursor, snapshot=True)

    def _take(self, item: Item, watcher: Watcher) -> None:
        assert item.name != "gap", item
        self.replica.take(item)
        self.shown += item.name == "snapshot" and item.data["last"]
        assert item.name != "ready" or not self.replica.stale, "ready without all of the rows"
        self.cursor = watcher.cursor
        if self.target is not None and item.name == "sync" and Cursor.parse(item.cursor).snapshot.covers(self.target):
            self.reached.set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_browsers_that_are_shown_the_rows_hold_what_they_may_see(
    make_shop: MakeShop, serve: Serve, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "CHUNK_CHARACTERS", 300)
    chance = seeded()
    world = Tenants(database, chance, 6)
    sites = [serve(serving(make_shop, world, PGEVENTS_HISTORY_BYTES=size).app) for size in (0, 16_000_000)]
    ports = [site.port for site in sites]
    browsers = [ShownBrowser(ports, world, world.user(n % 6), world.filter(), chance.random()) for n in range(24)]
    watch_browsers(world, chance, browsers)
    assert sum(browser.shown for browser in browsers) > len(browsers)


@pytest.fixture(autouse=True)
def _quick_deadlocks(database: Database) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET deadlock_timeout = '50ms'")
