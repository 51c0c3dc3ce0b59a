"""Commit order: concurrent writers against our reader, and against two wrong ones that the same checks must catch.

FAULTS_SEED=n replays the random choices of a run; every run prints its seed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pgevents_push.capture import Installer
from pgevents_push.event import TableName
from tests.faults import writers
from tests.faults.checker import PERFECT, TRUTH, Change, Verdict, check
from tests.faults.readers import HorizonReader, Reader, ResumingReader, SequenceReader, SnapshotReader
from tests.fixtures.chance import SEED
from tests.fixtures.postgres import Database, Server
from tests.fixtures.versions import VERSIONS

POLL_SECONDS = 0.01


@pytest.fixture
def server(each_version: Database) -> Server:
    return each_version.server


@pytest.fixture
def captured(each_version: Database) -> Database:
    database = each_version
    database.execute(writers.SCHEMA)
    options = {"max_row_bytes": 1_000_000, "lock_timeout_seconds": 2.0, "connect_timeout_seconds": 10.0}
    Installer(database.dsn, **options).install([TableName("public", "counter")])  # type: ignore[arg-type]
    return database


@pytest.fixture
def readers(captured: Database) -> Iterator[dict[str, Reader]]:
    dsn = captured.dsn
    made = {
        "ours": SnapshotReader(dsn, 1000),
        "ours, in pieces": SnapshotReader(dsn, 2),
        "ours, interrupted": ResumingReader(dsn, SEED),
        "by sequence": SequenceReader(dsn),
        "by horizon": HorizonReader(dsn),
    }
    yield made
    for reader in made.values():
        reader.close()


@pytest.fixture
def unrelated(server: Server) -> Iterator[Any]:
    """A writing transaction in another database that stays open: it concerns nobody, and holds back every xmin."""
    connection = server.connect(server.dsn["dbname"])
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_current_xact_id()")
    yield connection
    connection.close()


def verdicts_of(database: Database, readers: dict[str, Reader]) -> dict[str, Verdict]:
    truth = [Change(id_, tx, row, int(version), last) for id_, tx, row, version, last, *_ in database.execute(TRUTH)]
    check_log(database, truth)
    return {name: check(truth, reader.seen) for name, reader in readers.items()}


def check_log(database: Database, truth: list[Change]) -> None:
    """The log itself must hold what the rows say: each version of each row once, in order."""
    logged: dict[str, list[int]] = {}
    for change in truth:
        logged.setdefault(change.row, []).append(change.version)
    rows = database.execute("SELECT id, version FROM counter WHERE version > 0")
    assert logged == {f'counter{{"id":{id_}}}': list(range(1, version + 1)) for id_, version in rows}


def check_all(verdicts: dict[str, Verdict]) -> None:
    """Ours are perfect; each wrong one is caught, by what is wrong with it."""
    for name, verdict in verdicts.items():
        assert verdict == PERFECT or not name.startswith("ours"), (name, verdict, SEED)
    assert verdicts["by sequence"].missed > 0, verdicts
    assert verdicts["by horizon"].reordered > 0, verdicts


def follow(reader: Reader, stop: threading.Event, errors: list[Exception]) -> None:
    """Poll until the writers have ended and nothing more comes."""
    try:
        while reader.poll() or not stop.is_set():
            time.sleep(POLL_SECONDS)
        while reader.poll():
            pass
    except Exception as error:  # of a thread: the test must see it
        errors.append(error)


def follow_late(reader: Reader, total: int) -> None:
    """Poll until the horizon has passed everything; autovacuum may hold it back for a moment."""
    deadline = time.monotonic() + 60
    while len(reader.seen) < total:
        assert time.monotonic() < deadline, (len(reader.seen), total)
        reader.poll()
        time.sleep(POLL_SECONDS)


def test_concurrent_writers(
    captured: Database, readers: dict[str, Reader], server: Server, unrelated: Any, request: pytest.FixtureRequest
) -> None:
    print(f"FAULTS_SEED={SEED}")
    seconds = 12 if request.node.callspec.params["each_version"] == VERSIONS[-1] else 6
    stop, errors = threading.Event(), list[Exception]()
    # The one that waits for the horizon sees nothing while the unrelated transaction is open: it reads afterwards.
    horizon = readers["by horizon"]
    threads = [threading.Thread(target=follow, args=[r, stop, errors]) for r in readers.values() if r is not horizon]
    for thread in threads:
        thread.start()
    with writers.writing(captured.connect, writers.Load(SEED)) as counts:
        time.sleep(seconds)
        assert not horizon.poll(), "the unrelated transaction does not hold back the horizon"
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not errors, (errors, SEED)
    unrelated.close()
    follow_late(horizon, captured.execute("SELECT count(*) FROM pgevents.log")[0][0])
    verdicts = verdicts_of(captured, readers)
    interrupted = readers["ours, interrupted"].counts
    print({**counts}, {**interrupted}, verdicts, sep="\n")
    check_all(verdicts)
    assert all(counts[what] >= seconds / 2 for what in ("committed", "long", "rolled back", "taken back")), counts
    assert interrupted["inside a transaction"] >= seconds / 2, interrupted


def test_first_writers_that_commit_last(captured: Database, readers: dict[str, Reader]) -> None:
    """The smallest case: transactions get their numbers in the order first, third, second; second changes a row
    and commits, first changes it again and commits, third just stays open."""
    first, third, second = (captured.connect(autocommit=False) for _ in range(3))
    update(first, 2)
    update(third, 3)
    update(second, 1)
    second.commit()
    poll(readers)
    update(first, 1)
    first.commit()
    poll(readers)
    at_once = {name: [(c.row[-2], c.version) for c in reader.seen] for name, reader in readers.items()}
    assert at_once["ours"] == at_once["ours, in pieces"] == [("1", 1), ("2", 1), ("1", 2)]
    third.commit()
    poll(readers)
    check_all(verdicts_of(captured, readers))


def update(connection: Any, row: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE counter SET version = version + 1 WHERE id = %s", [row])


def poll(readers: dict[str, Reader]) -> None:
    for reader in readers.values():
        while reader.poll():
            pass
