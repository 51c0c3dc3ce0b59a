"""Nothing is lost, doubled or out of order in any browser by any client, whatever happens: the matrix, once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.matrix import Matrix, table, wrong
from tests.browser.matrix_clients import CLIENTS
from tests.browser.matrix_faults import FAULTS
from tests.browser.stage import Stage

SEED = 5
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def matrix(stage: Stage) -> Iterator[Matrix]:
    running = Matrix(stage, SEED)
    yield running
    running.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_nobody_misses_anything(matrix: Matrix, fault: str) -> None:
    verdicts = matrix.run(fault)
    assert len(verdicts) == 2 * len(CLIENTS)
    assert wrong(fault, verdicts) == [], "\n".join(table(fault, verdicts))
