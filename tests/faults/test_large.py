"""Large: 200,000 rows in one transaction, and a row of 50 MB: the writer commits, a worker's memory stays bounded."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.follower import Follower
from tests.faults.soak_writers import SCHEMA
from tests.fixtures.postgres import Database
from tests.fixtures.servers import Serving, serving

pytestmark = pytest.mark.alone

ROWS = 200_000
LARGE_BYTES = 50_000_000
# Measured: 10 and 0 MB. Of all rows at once it would be 300 MB, of the large one 150.
MOST_MEGABYTES_FOR_MANY = 32
MOST_MEGABYTES_FOR_ONE = 16


@pytest.fixture
def served(database: Database) -> Iterator[Serving]:
    database.execute(SCHEMA)
    settings: dict[str, Any] = {"handler_queue_events": ROWS, "app": "tests.fixtures.soak_app:app"}
    with serving("gevent", database.url, workers=1, **settings) as served:
        yield served


@contextmanager
def bounded(served: Serving, megabytes: float) -> Iterator[None]:
    """The worker's memory may grow by so much, also only for a moment."""
    [pid] = served.pids
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the peak
    before = psutil.Process(pid).memory_info().rss / 1e6
    yield
    [peak] = [int(line.split()[1]) / 1e3 for line in Path(f"/proc/{pid}/status").read_text().splitlines()
              if line.startswith("VmHWM")]  # fmt: skip
    print(f"memory: {before:.0f} MB, at most {peak:.0f} MB")
    assert peak - before < megabytes


def read(follower: Follower, changes: int) -> None:
    while len(follower.changes) < changes:
        assert follower.read(), follower.others


@pytest.mark.slow
def test_many_rows_in_one_transaction(database: Database, served: Serving) -> None:
    with Follower(served.ports[0], "probe") as follower, bounded(served, MOST_MEGABYTES_FOR_MANY):
        began = time.monotonic()
        database.execute(f"INSERT INTO probe SELECT generate_series(1, {ROWS})")
        written = time.monotonic() - began
        read(follower, ROWS)
        print(f"written in {written:.1f} s, delivered {time.monotonic() - began - written:.1f} s later")
        assert follower.keys() == list(range(1, ROWS + 1))
        assert len({change["tx"] for change in follower.changes}) == 1
        assert [change["last"] for change in follower.changes] == [False] * (ROWS - 1) + [True]
        assert set(follower.others) <= {"ready", "sync"}
        served.until(lambda: handled(served)["count"] == ROWS, 60, lambda: handled(served))
    assert handled(served)["sum"] == sum(range(1, ROWS + 1))


def handled(served: Serving) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{served.ports[0]}/handled", timeout=30) as answer:
        found: dict[str, int] = json.load(answer)
        return found


def test_a_row_of_50_megabytes(database: Database, served: Serving) -> None:
    with Follower(served.ports[0], "item") as follower, bounded(served, MOST_MEGABYTES_FOR_ONE):
        database.execute(f"INSERT INTO item (id, note) VALUES (1, repeat('x', {LARGE_BYTES}))")
        database.execute("UPDATE item SET note = note || 'y'")
        database.execute("UPDATE item SET note = 'small'")
        database.execute("DELETE FROM item")
        read(follower, 4)
    assert [(change["type"], change["pk"]) for change in follower.changes] == [
        (kind, {"id": 1}) for kind in ("insert", "update", "update", "delete")
    ]
    assert [change.get("truncated", False) for change in follower.changes] == [True, True, True, False]
    assert all(len(str(change)) < 2_000 for change in follower.changes)
