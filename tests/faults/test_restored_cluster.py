"""A restored cluster: the database goes back to what it was some changes ago, under a running app.

Whoever was connected, or comes back with a position of the lost time, is told; and everything goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres import Postgres
from tests.faults.everybody import own_database, query
from tests.faults.follower import Follower
from tests.fixtures.postgres import Database
from tests.fixtures.servers import Serving, serving

# What the lost time made; after it fewer are made, so that its positions stay ahead of everything.
LOST, LATER = 20, 3


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Database]:
    with own_database(tmp_path) as database:
        yield database


@pytest.fixture
def served(own: Database) -> Iterator[Serving]:
    with serving("gevent", own.url, retry_seconds=0.2) as served:
        yield served


def insert(database: Database, *numbers: int) -> None:
    for number in numbers:  # a transaction each
        query(database, "INSERT INTO orders (id) VALUES (%s)", number)


def postgres_of(database: Database) -> Postgres:
    assert database.server.postgres is not None
    return database.server.postgres


def back_up(database: Database, place: Path) -> None:
    """A copy of the files of a server that does not run."""
    postgres = postgres_of(database)
    postgres.stop()
    shutil.copytree(postgres.data_dir, place)
    postgres.start()


def restore(database: Database, place: Path, *, new_timeline: bool) -> None:
    """Put the copy there. A recovery from an archive ends in a new timeline, a snapshot of the disk does not."""
    postgres = postgres_of(database)
    postgres.stop()
    shutil.rmtree(postgres.data_dir)
    shutil.copytree(place, postgres.data_dir)
    if new_timeline:
        (postgres.data_dir / "recovery.signal").touch()
        with (postgres.data_dir / "postgresql.auto.conf").open("a") as settings:
            settings.write("restore_command = 'false'\n")
    postgres.start()


def listening(served: Serving) -> bool:
    return set(served.statuses().values()) == {"listening"}


@pytest.mark.parametrize(("new_timeline", "reason"), [(True, "epoch"), (False, "cursor")])
def test_who_knows_the_lost_time_is_told(
    own: Database, served: Serving, tmp_path: Path, new_timeline: bool, reason: str
) -> None:
    insert(own, 100)
    with Follower(served.ports[0]) as early:
        back_up(own, tmp_path / "copy")
        insert(own, *range(200, 200 + LOST))
        early.until_key(199 + LOST)
        of_lost_time, before = early.cursor, len(served.lines())
        restore(own, tmp_path / "copy", new_timeline=new_timeline)
        served.until(lambda: listening(served) and len(served.lines()) > before, 30, served.statuses)
        early.until("bye")
    assert early.bye["reason"] == "lost"
    insert(own, *range(300, 300 + LATER))
    for number, since in enumerate((of_lost_time, early.cursor), 400):
        with Follower(served.ports[0], since=since) as late:
            late.until("gap")
            insert(own, number)
            late.until_key(number)
        assert not set(late.keys()) & set(range(200, 200 + LOST))
        assert late.reasons == [reason]
    until_handled(own, served)


def until_handled(database: Database, served: Serving) -> None:
    """Every worker's handlers go on from here."""
    insert(database, 999)

    def heard() -> bool:
        calls = served.calls()
        return all(any(line["pk"] == {"id": 999} for line in calls[pid, "change orders"]) for pid in served.pids)

    served.until(heard, 10, served.statuses)
