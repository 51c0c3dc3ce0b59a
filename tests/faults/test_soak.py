"""A short round of the soak for each way to be woken, with a fixed plan; `make soak` runs long ones by chance.

FAULTS_SEED=n runs another plan, or replays one; every run prints its seed and its plan.
"""

from __future__ import annotations

import os

import pytest

from tests.faults.soak import run
from tests.faults.soak_nemeses import NEMESES
from tests.fixtures.chance import SEED

pytestmark = pytest.mark.alone

VERSION = int(os.environ.get("PGEVENTS_TEST_PG") or 0) or None
# Each nemesis comes in one of the two, and a crash in both.
HALF = sorted(NEMESES)[::2]
ROUNDS = {"notify": {*HALF, "crash"}, "poll": {*(NEMESES.keys() - HALF), "crash"}}
SECONDS = 15


@pytest.mark.parametrize("wakeup", ROUNDS)
def test_nobody_misses_anything_whatever_goes_wrong(wakeup: str) -> None:
    report = run(SEED, SECONDS, wakeup, VERSION, ROUNDS[wakeup])
    print(report)
    assert not report.problems, report
    assert report.changes > 500
    assert report.delivered > 2 * report.changes
