"""How all connections of a process end, over every server and both ways to its clients: in time, and when it stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.servers import ServerName
from tests.fixtures.worlds import CASES, World, names_of, world_of


@pytest.fixture(params=CASES, ids=names_of)
def case(request: pytest.FixtureRequest) -> tuple[ServerName, bool]:
    chosen: tuple[ServerName, bool] = request.param
    return chosen


@pytest.fixture
def short(server: Any, case: tuple[ServerName, bool]) -> Iterator[World]:
    """One in which no connection lives for long."""
    with world_of(server, *case, max_stream_seconds=2.0) as world:
        yield world


@pytest.fixture
def world(server: Any, case: tuple[ServerName, bool]) -> Iterator[World]:
    with world_of(server, *case) as world:
        yield world


def test_a_life_ends_with_a_word_that_says_so(short: World) -> None:
    streams, clients = [short.stream().ready() for _ in range(3)], [short.talk(), short.talk()]
    clients[0].live()
    short.until(connections=5, handed_over=5 if short.handed else 0)
    short.insert(1)
    clients[0].changes(1)
    for stream in streams:
        stream.changes(1)
        stream.end()
        assert (stream.names[-1], stream.events[-1].data["reason"]) == ("bye", "lifetime")
        assert stream.finished
    assert [client.last_words() for client in clients] == [1012, 1012]
    short.until(connections=0)
    back = short.stream(since=streams[0].events[-2].id or streams[0].seen[-1].id).ready()
    assert back.events[0].data["resumed"] is True


def test_all_are_told_that_the_process_stops(world: World) -> None:
    streams = [world.stream(version=version).ready() for version in ("1.1", "1.0") * 5]
    clients, silent = [world.talk() for _ in range(10)], world.talk()
    for client in clients:
        client.live()
    world.until(connections=21, handed_over=21 if world.handed else 0)
    world.insert(1)
    for stream in streams:
        stream.changes(1)
    for client in clients:
        client.changes(1)
    assert world.serving.get("/stop")["stopped"] in world.serving.pids
    for stream in streams:
        stream.end()
        assert stream.finished
        assert (stream.names[-1], stream.events[-1].data["reason"]) == ("bye", "shutdown")
    assert len({stream.events[-1].data["retry"] for stream in streams}) > 1
    for client in (*clients, silent):
        assert client.last_words() == 1012
        assert client.rest() == b""
    assert world.left()["handed_over"] == 0
