"""Clocks that jump an hour ahead and back, the app's or PostgreSQL's: beats go on, nothing is lost in silence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres import Postgres
from pgevents_push.listener import prune
from tests.faults.everybody import fill
from tests.faults.follower import Follower
from tests.fixtures.faketime import Clock
from tests.fixtures.postgres import Database, Server
from tests.fixtures.servers import serving

HOUR = 3600
BEATS, BEAT_SECONDS = 3, 0.5
# What a busy machine adds; a jump adds or takes an hour.
SLACK_SECONDS = 5.0


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


def beats(follower: Follower) -> float:
    """Return how long some heartbeats take."""
    began, wanted = time.monotonic(), follower.others.count("sync") + BEATS
    while follower.others.count("sync") < wanted:
        assert follower.read(), follower.others
    return time.monotonic() - began


# (Not under gunicorn: libfaketime 0.9.10 lets time.sleep() of Python fail, which gevent replaces, but its master uses.)
def test_the_apps_clock(database: Database, clock: Clock) -> None:
    fill(database)
    with clock.inherited(), serving("pywsgi", database.url, heartbeat_seconds=BEAT_SECONDS) as served:
        with Follower(served.ports[0]) as follower:
            taken = [beats(follower)]
            for key, jump in enumerate((HOUR, -HOUR, 0), 1000):
                clock.jump(jump)
                taken.append(beats(follower))
                began = time.monotonic()
                database.execute("INSERT INTO orders (id) VALUES (%s)", key)
                follower.until_key(key)
                assert time.monotonic() - began < SLACK_SECONDS
        print(f"{BEATS} beats took {taken} s")
        # A clock that counts is an hour off: it beats without end, or not at all.
        assert all(-BEAT_SECONDS < seconds - BEATS * BEAT_SECONDS < SLACK_SECONDS for seconds in taken)
        assert set(follower.others) == {"ready", "sync"}
        with Follower(served.ports[0], since=follower.cursor) as late:  # a position has no time of day in it
            late.until("sync")
            assert not late.reasons
        assert set(served.statuses().values()) == {"listening"}


@pytest.fixture
def jumping(tmp_path: Path, clock: Clock) -> Iterator[Database]:
    """A database on a server with that clock."""
    with clock.inherited():
        postgres = Postgres(data_dir=tmp_path / "data").start()
    database = Database(Server({"host": str(postgres.socket_dir), "user": "postgres", "dbname": "postgres"}, postgres),
                        "postgres")  # fmt: skip
    yield fill(database)
    database.close()
    postgres.stop()


# Back by two slots of the ring, what was just written looks six slots old, and due; it is not. Ahead by six it is.
SLOT = 720
BACK, AHEAD = -2 * SLOT, 6 * SLOT


def test_the_servers_clock(jumping: Database, clock: Clock) -> None:
    """The log is a ring whose slots the clock chooses. Whatever it does, whoever comes back gets all, or is told."""
    with serving("gevent", jumping.url, history_bytes=0) as served, Follower(served.ports[0]) as follower:
        jumping.execute("UPDATE pgevents.retention SET since = '2020-01-01'")  # as if installed long ago
        positions, keys = [follower.cursor], list[int]()
        for jump in (0, HOUR, -HOUR, 0, BACK, 25 * HOUR, 0, AHEAD, 0):
            clock.jump(jump)
            keys.append(1000 + len(keys))
            jumping.execute("INSERT INTO orders (id) VALUES (%s)", keys[-1])
            follower.until_key(keys[-1])
            positions.append(follower.cursor)
            prune(jumping.execute)
            told = {resumed(served.ports[0], since, keys[seen:]) for seen, since in enumerate(positions)}
            assert ("retention" in told) is (len(keys) > 7), (jump, told)  # from AHEAD on
        assert follower.keys() == keys
        assert set(follower.others) <= {"ready", "sync"}


def resumed(port: int, since: str, missed: list[int]) -> str:
    """Come back; what was missed must come, in order, or the word that some is gone. Return what was told."""
    with Follower(port, since=since) as late:
        while missed and late.keys() != missed and not late.reasons:
            assert late.read(), late.others
        assert late.reasons in ([], ["retention"])
        # Behind a gap some may have come already.
        assert late.keys() == (missed[len(missed) - len(late.keys()) :] if late.reasons else missed)
        return late.reasons[0] if late.reasons else "nothing"
