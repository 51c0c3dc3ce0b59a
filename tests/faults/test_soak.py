"""A short round of the soak, once for each way to be woken; `make soak` runs a long one.

FAULTS_SEED=n replays a run (`poll` takes n + 1); every run prints its plan.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.soak import run

SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
VERSION = int(os.environ.get("PGEVENTS_TEST_PG") or 0) or None


@pytest.mark.soak
@pytest.mark.parametrize(("wakeup", "seed"), [("notify", SEED), ("poll", SEED + 1)], ids=["notify", "poll"])
def test_nobody_misses_anything_whatever_goes_wrong(wakeup: str, seed: int) -> None:
    report = run(seed, 10, wakeup, VERSION)
    print(report)
    assert not report.problems, report
    assert report.changes > 500
    assert report.delivered > 2 * report.changes
    assert report.recovery["listener killed"] < 1
    assert report.recovery["PostgreSQL restarted"] < 2
