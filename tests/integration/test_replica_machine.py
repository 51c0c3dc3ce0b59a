"""Whatever is written, by whom, and whoever joins, leaves, is cut off or revoked meanwhile: each replica is what its
owner may see. A state machine: Hypothesis chooses the steps, and prints those that led to a failure.

PGEVENTS_MACHINE_EXAMPLES=100 runs more of it. To make a failure shorter would take it minutes: each example has a
database and two processes of its own.
"""

from __future__ import annotations

import os
import random
import uuid
from typing import Any

import hypothesis.strategies as st
import pytest
from flask import request
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.extension import snapshots
from pgevents_push.listener import Connection, read_position
from tests.fixtures.postgres import Database
from tests.fixtures.replica import Replica, marks
from tests.fixtures.roles import role
from tests.fixtures.shop import Shop
from tests.fixtures.tenants import CANARY, Filter, Tenants, connect
from tests.fixtures.watchers import WATCHERS, Asked, Item, Watcher
from tests.fixtures.web import Site

EXAMPLES = int(os.environ.get("PGEVENTS_MACHINE_EXAMPLES", 8))
TENANTS = 4
SETTINGS = {"PGEVENTS_HEARTBEAT_SECONDS": 0.2, "PGEVENTS_MAX_BATCH_EVENTS": 50}
KILL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s"
)
SEEDS = st.integers(0, 10**6)
ENDS = ("bye lost", "bye revoked", "closed 1012", "closed 4403", "503")


class Copy:
    """One client with its replica. Cut off, it comes back from where it was, to any process.

    :param shows: the rows are shown by the server; else they are read when it says `ready`.
    """

    def __init__(self, ports: list[int], world: Tenants, user: str, wanted: Filter, shows: bool, seed: int) -> None:
        self.ports, self.world, self.user, self.wanted, self.shows = ports, world, user, wanted, shows
        self.where = world.may_see(user) & wanted.where
        self.chance = random.Random(seed)
        self.replica = Replica()
        self.cursor: str | None = None
        self.watcher = self._open()

    def _open(self) -> Watcher:
        kind: type[Watcher] = self.chance.choice(WATCHERS)
        asked = Asked(self.world.name, self.user, self.wanted.texts, since=self.cursor, snapshot=self.shows)
        return kind(self.chance.choice(self.ports), asked)

    def come_back(self, reads: int) -> None:
        """Read a little, leave, and be there again."""
        for _ in range(reads):
            if (item := next(self.watcher, None)) is not None:
                self._take(item)
        self.leave()
        self.watcher = self._open()

    def leave(self) -> None:
        self.watcher.close()
        assert self.watcher.ended in ("", *ENDS), self.watcher.ended
        assert marks(bytes(self.watcher.raw)) <= self.world.marks(self.user)
        assert CANARY.encode() not in self.watcher.raw

    def follow(self, target: Snapshot) -> None:
        """Read until the server says that nothing is missing before a position."""
        while True:
            item = next(self.watcher, None)
            if item is None:
                self.come_back(0)
                continue
            self._take(item)
            if item.name == "sync" and Cursor.parse(item.cursor).snapshot.covers(target):
                return

    def _take(self, item: Item) -> None:
        self.replica.take(item)
        if item.name == "ready" and self.replica.stale:
            assert not self.shows, "ready without all of the rows"
            self.replica.load(self.world.select(self.where))
        assert item.name != "gap", item
        self.cursor = self.watcher.cursor


class Machine(RuleBasedStateMachine):
    """Two processes with one table; writers, of whom one keeps a transaction open; and clients."""

    copies: Bundle[Copy] = Bundle("copies")
    server: Any

    def __init__(self) -> None:
        super().__init__()
        self.database = Database(self.server, f"pgevents_test_{uuid.uuid4().hex[:12]}")
        self.server.create(self.database.name)
        self.shops: list[Shop] = []
        self.sites: list[Site] = []
        self.alive: list[Copy] = []
        self.role: Any = None

    @initialize(seed=SEEDS, by_policy=st.booleans())
    def begin(self, seed: int, by_policy: bool) -> None:
        self.world = Tenants(self.database, random.Random(seed), TENANTS)
        self.role = role(self.database, "web")
        self.web = self.role.__enter__()
        if by_policy:
            self.world.secure(self.web)
        for history in (0, 16_000_000):
            self._serve(by_policy, PGEVENTS_HISTORY_BYTES=history)
        self.open = connect(self.database)

    def _serve(self, by_policy: bool, **more: Any) -> None:
        world = self.world
        shop = Shop(self.database, **{**SETTINGS, **more})
        shop.events.identify(lambda: request.headers["X-User"])
        who: dict[str, Any] = {"authorize": lambda asked: world.rights(asked.identity, asked.c)}
        if by_policy:
            who = {"rls": lambda asked: world.persona(asked.identity, self.web)}
        shop.events.expose(world.name, columns=world.columns, **who)
        self.shops.append(shop.register().start())
        self.sites.append(Site(shop.app))

    @rule(target=copies, seed=SEEDS, tenant=st.integers(0, TENANTS - 1), shows=st.booleans())
    def join(self, seed: int, tenant: int, shows: bool) -> Copy:
        self.world.chance.seed(seed)
        ports = [site.port for site in self.sites]
        self.alive.append(Copy(ports, self.world, self.world.user(tenant), self.world.filter(), shows, seed))
        return self.alive[-1]

    @rule(copy=copies, reads=st.integers(0, 5))
    def come_back(self, copy: Copy, reads: int) -> None:
        copy.come_back(reads)

    @rule(copy=consumes(copies))
    def leave(self, copy: Copy) -> None:
        self.alive.remove(copy)
        copy.leave()

    @rule(seed=SEEDS, transactions=st.integers(1, 8))
    def write(self, seed: int, transactions: int) -> None:
        with connect(self.database) as connection:
            self.world.write(random.Random(seed), connection, transactions)

    @rule(seed=SEEDS, keep=st.sampled_from([None, True, False]))
    def write_in_a_transaction_that_stays_open(self, seed: int, keep: bool | None) -> None:
        """It may end, one way or the other, at any later step."""
        chance = random.Random(seed)
        kind = chance.choice((self.world._insert, self.world._update, self.world._move, self.world._delete))
        self.world._attempt(self.open, kind, chance)
        if keep is not None:
            self.open.commit() if keep else self.open.rollback()

    @rule()
    def kill(self) -> None:
        self.database.execute(KILL, self.database.name)

    @rule(copy=copies)
    def revoke(self, copy: Copy) -> None:
        """It may come back at once, but its streams end."""
        self.database.execute("SELECT pgevents.revoke_v1(%s)", copy.user)

    @rule()
    def compare(self) -> None:
        connection = Connection(self.database.dsn, 10)
        target = read_position(connection.execute).snapshot
        connection.close()
        for copy in self.alive:
            copy.follow(target)
        for copy in self.alive:
            assert not copy.replica.stale
            assert copy.replica.rows == self.world.select(copy.where), (copy.user, copy.wanted.texts, copy.shows)

    def teardown(self) -> None:
        try:
            if self.shops:
                self.open.rollback()
                self.compare()
        finally:
            for copy in self.alive:
                copy.leave()
            for site in self.sites:
                site.close()
            for shop in self.shops:
                shop.close()
            if self.role is not None:
                self.role.__exit__(None, None, None)
            self.database.close()
            self.server.execute(f"DROP DATABASE {self.database.name} WITH (FORCE)")


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * EXAMPLES)
def test_a_replica_is_what_its_owner_may_see(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "server", server, raising=False)
    monkeypatch.setattr(snapshots, "CHUNK_CHARACTERS", 300)
    checks = list(HealthCheck)
    chosen = settings(
        max_examples=EXAMPLES, stateful_step_count=25, deadline=None, suppress_health_check=checks,
        phases=[Phase.generate], database=None,
    )  # fmt: skip
    run_state_machine_as_test(Machine, settings=chosen)
