"""A minute of hostile inputs: only documented answers, no exception that nobody caught, nobody else served late.

PGEVENTS_FUZZ_SECONDS makes it longer, PGEVENTS_FUZZ_SEED draws others or replays a run;
`make fuzz` runs ten minutes of its own.
"""

from __future__ import annotations

import os

import pytest

from tests.fixtures.postgres import Database
from tests.security.fuzz import fuzz

SECONDS = float(os.environ.get("PGEVENTS_FUZZ_SECONDS") or 60)
SEED = int(os.environ.get("PGEVENTS_FUZZ_SEED") or 7)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 90)
def test_only_documented_answers(database: Database) -> None:
    report = fuzz(database, SEED, SECONDS)
    print(report)
    assert not report.problems, str(report)
    assert sum(report.answers.values()) > 10 * SECONDS
    assert report.each < 0.005
