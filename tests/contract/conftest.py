"""What both suites over every server run in; that of rights has an app of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.worlds import CASES, World, names_of, world_of


@pytest.fixture(scope="module", params=CASES, ids=names_of)
def running(request: pytest.FixtureRequest, server: Any) -> Iterator[World]:
    with world_of(server, *request.param) as world:
        yield world


@pytest.fixture
def world(running: World) -> Iterator[World]:
    yield running
    running.clean()
