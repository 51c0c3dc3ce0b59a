"""The log is a ring: old slots are emptied, and it is always known whether a cursor lost something by that."""

from __future__ import annotations

import math
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgevents_push.capture import Retention
from pgevents_push.capture.render import SLOTS
from pgevents_push.errors import ConnectionLost, InstallError
from pgevents_push.event import TableName
from pgevents_push.listener import Pruned, Pruner
from tests.fixtures.capture import install, installer
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.ring import OLD_ROWS, pruned, slot, write_old

T = TableName("public", "t")


def model(at: float, since: float, period: float, seconds: float, most: int, counts: list[int | None]) -> list[int]:
    """The rule in words of its own: walk back from the current slot, counting what is newer."""
    turn, slots = math.floor(at / period), len(counts)
    newer = (counts[(turn + 1) % slots] or 0) + (counts[turn % slots] or 0)
    due: list[int] = []
    for back in range(1, slots - 1):
        number = (turn - back) % slots
        newer += counts[number] or 0
        quiet = at - max((turn - back + 1) * period, since)
        if counts[number] is not None and (quiet >= seconds or (newer > most and quiet >= min(10, period))):
            due.insert(0, number)
    return due


@given(
    st.floats(1e6, 4e9), st.floats(0, 4e9), st.floats(0.1, 1e5), st.floats(0.1, 1e6), st.integers(1, 100),
    st.lists(st.none() | st.integers(0, 60), min_size=8, max_size=8),
)  # fmt: skip
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_due_is_what_the_model_says(
    ring: Database, at: float, since: float, period: float, seconds: float, most: int, counts: list[int | None]
) -> None:
    asked = (at, since, period, seconds, most, counts)
    [(due,)] = ring.execute("SELECT pgevents.due_v1(%s, %s, %s, %s, %s, %s::bigint[])::int[]", *asked)
    assert due == model(*asked)
    turn = math.floor(at / period)
    assert not {turn % 8, (turn + 1) % 8} & set(due)


@given(st.lists(st.floats(0.01, 3.0), min_size=20, max_size=60), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_stay_as_long_as_promised_however_seldom_one_prunes(
    ring: Database, pauses: list[float], start: int
) -> None:
    """A clock of our own, a row before and after each pruning, at random times: with slots of 1 s nothing younger
    than 5 s goes; a slot whose time was missed keeps its rows for a round; pruned in time, none is older than 7 s."""
    at = float(1_000_000 + start)
    rows: list[float] = []
    in_time = True
    for pause in pauses:
        in_time = in_time and pause <= 0.5
        at += pause
        rows.append(at)
        counts = [sum(int(row) % 8 == number for row in rows) or None for number in range(8)]
        [(due,)] = ring.execute("SELECT pgevents.due_v1(%s, 0, 1, 5, 1000000, %s::bigint[])::int[]", at, counts)
        gone = [row for row in rows if int(row) % 8 in due]
        assert all(at - row >= 5 for row in gone)
        rows = [row for row in rows if row not in gone]
        assert not in_time or all(at - row < 7.5 for row in rows)


def test_only_old_slots_are_emptied(ring: Database) -> None:
    slots = {age: write_old(ring, age, 10 + age) for age in range(SLOTS)}
    found = pruned(ring)
    assert [p.slot for p in found] == [slots[age] for age in range(SLOTS - 2, 0, -1)]  # oldest first
    assert [p.about_rows for p in found] == [10 + age for age in range(SLOTS - 2, 0, -1)]
    assert all(p.emptied for p in found)
    left = ring.execute("SELECT DISTINCT slot FROM pgevents.log")
    assert {number for (number,) in left} == {slots[0], slots[SLOTS - 1]}
    assert pruned(ring) == []


def test_too_many_rows_go_earlier_but_not_at_once(ring: Database) -> None:
    ring.execute("UPDATE pgevents.retention SET seconds = 1e6, rows = 1000")
    old, middle, new = (write_old(ring, age, 400) for age in (5, 3, 2))
    assert [p.slot for p in pruned(ring)] == [old]
    write_old(ring, 0, 500)
    assert [p.slot for p in pruned(ring)] == [middle]
    assert {number for (number,) in ring.execute("SELECT DISTINCT slot FROM pgevents.log")} == {new, slot(ring, 0)}


def test_an_open_writer_keeps_its_slot(ring: Database) -> None:
    old, free = slot(ring, 4), write_old(ring, 3)
    writer = ring.connect(autocommit=False).cursor()
    writer.execute(OLD_ROWS.format(slot=old, n=1))
    write_old(ring, 4)
    assert [(p.slot, p.emptied) for p in pruned(ring)] == [(old, False), (free, True)]
    assert ring.execute("SELECT count(*) FROM pgevents.log") == [(1,)]
    writer.connection.commit()
    assert pruned(ring) == [Pruned(old, 2, True)]


def test_a_prepared_transaction_keeps_its_slot(ring: Database) -> None:
    writer = ring.connect(autocommit=False).cursor()
    old = slot(ring, 4)
    writer.execute(OLD_ROWS.format(slot=old, n=1) + "; PREPARE TRANSACTION 'two'")
    writer.connection.commit()
    assert pruned(ring) == [Pruned(old, 0, False)]
    ring.execute("COMMIT PREPARED 'two'")
    assert pruned(ring) == [Pruned(old, 1, True)]


def test_a_dump_delays_and_is_whole(ring: Database) -> None:
    """pg_dump holds ACCESS SHARE on every table from its first moment, with one snapshot."""
    write_old(ring, 4, 5)
    dump = ring.connect(autocommit=False).cursor()
    dump.execute(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM t; LOCK TABLE pgevents.log IN ACCESS SHARE MODE"
    )
    assert [p.emptied for p in pruned(ring)] == [False]
    ring.execute("INSERT INTO t VALUES (1)")  # nobody waits meanwhile
    dump.execute("SELECT count(*) FROM pgevents.log")
    assert dump.fetchone() == (5,)
    dump.connection.commit()
    assert [p.emptied for p in pruned(ring)] == [True]
    command = [ring.server.tool("pg_dump"), "-d", psycopg2.extensions.make_dsn(**ring.dsn)]
    assert "pgevents.log_0" in subprocess.check_output(command, text=True)


def test_a_locked_log_is_left_alone(ring: Database) -> None:
    write_old(ring, 4)
    ddl = ring.connect(autocommit=False).cursor()
    ddl.execute("LOCK TABLE pgevents.log IN ACCESS EXCLUSIVE MODE")
    assert pruned(ring) == []
    ddl.connection.rollback()
    assert len(pruned(ring)) == 1


def test_several_pruners_at_once(ring: Database) -> None:
    connections = [ring.connect() for _ in range(6)]
    for _ in range(10):
        old = [write_old(ring, age, 3) for age in (6, 4, 2)]
        barrier = threading.Barrier(len(connections))

        def one(connection: Any, barrier: threading.Barrier = barrier) -> list[int]:
            cursor = connection.cursor()
            barrier.wait(10)
            cursor.execute("SELECT slot FROM pgevents.prune_v1() WHERE emptied")
            return [number for (number,) in cursor.fetchall()]

        with ThreadPoolExecutor(len(connections)) as pool:
            emptied = [number for found in pool.map(one, connections) for number in found]
        emptied += [p.slot for p in pruned(ring)]
        assert sorted(emptied) == sorted(old)
        assert ring.execute("SELECT count(*) FROM pgevents.log") == [(0,)]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_an_old_snapshot_must_not_prune(ring: Database, level: str) -> None:
    cursor = ring.connect(autocommit=False).cursor()
    cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
    with pytest.raises(psycopg2.errors.FeatureNotSupported, match="READ COMMITTED"):
        cursor.execute("SELECT * FROM pgevents.prune_v1()")


def test_a_log_without_slots_makes_room(database: Database) -> None:
    install(database)
    first = database.execute("SELECT id FROM pgevents.installation")
    database.execute("DROP TABLE pgevents.log; CREATE TABLE pgevents.log (id bigint, xid xid8, slot smallint)")
    database.execute("CREATE VIEW mine AS SELECT * FROM pgevents.log")
    assert installer(database).status([]).schema == "outdated"
    with pytest.raises(InstallError, match="other objects depend on"):
        installer(database).install([])
    database.execute("DROP VIEW mine")
    assert installer(database).install([]).complete
    assert database.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = 'pgevents.log'::regclass") == [(8,)]
    assert database.execute("SELECT id FROM pgevents.installation") != first


@pytest.mark.parametrize(
    "sql", ["DROP TABLE pgevents.log_3", "DROP TABLE pgevents.emptied", "DROP TABLE pgevents.retention"]
)
def test_a_missing_part_is_seen_and_mended(database: Database, sql: str) -> None:
    install(database)
    database.execute(sql)
    assert installer(database).status([]).schema == "outdated"
    assert installer(database).install([]).complete
    assert pruned(database) == []


def test_another_retention_waits_for_force(ring: Database) -> None:
    """Two applications with different settings must not take turns at every start."""
    other = installer(ring, retention=Retention(50.0, 2000))
    ring.execute("COMMENT ON SCHEMA pgevents IS 'pgevents_push v1 0000'")
    assert other.install([T]).complete
    assert ring.execute("SELECT seconds, period, rows FROM pgevents.retention") == [(0.001, 720.0, 1_000_000)]
    other.install([T], force=True)
    assert ring.execute("SELECT seconds, period, rows FROM pgevents.retention") == [(50.0, 10.0, 2000)]
    [(since,)] = ring.execute("SELECT since FROM pgevents.retention")
    write_old(ring, 4)
    assert pruned(ring) == []  # slots of the old length may hold rows of a second ago
    other.install([T], force=True)
    assert ring.execute("SELECT since FROM pgevents.retention") == [(since,)]
    ring.execute("INSERT INTO t VALUES (1)")
    expected = "floor(date_part('epoch', at) / 10)::bigint % 8"
    assert ring.execute(f"SELECT slot = {expected} FROM pgevents.log ORDER BY id DESC LIMIT 1") == [(True,)]


def test_the_pruner_works_beside_and_survives(ring: Database) -> None:
    write_old(ring, 4)
    clock = [0.0]
    pruner = Pruner(ring.dsn, 20.0, 5, lambda: clock[0], lambda: 0.5)
    pruner.look()
    clock[0] = 1.0
    pruner.look()
    wait_until(lambda: ring.execute("SELECT count(*) FROM pgevents.log") == [(0,)])
    pruner.stop(10)
    write_old(ring, 4)
    pruner.look()
    assert ring.execute("SELECT count(*) FROM pgevents.log") == [(1,)]  # stopped


def test_an_unreachable_server_is_reported_once(ring: Database, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    pruner = Pruner({"host": "127.0.0.1", "port": 1}, 20.0, 2, lambda: clock[0], lambda: 0.0)
    for at in (1.0, 5.0, 10.0):
        clock[0] = at
        pruner.look()
        assert pruner._task is not None
        pruner._task.join(10)
    assert [record.message.split(":")[0] for record in caplog.records] == ["the log was not pruned"]
    with pytest.raises(ConnectionLost):
        pruner._once()
