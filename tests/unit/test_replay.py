"""Replay's connections to the log: those that died while they waited, those that are used when it closes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pgevents_push.cursor import Cursor
from pgevents_push.errors import ConnectionLost
from pgevents_push.extension.replay import Replay
from pgevents_push.hub import Hub
from pgevents_push.listener import Connection

SINCE = Cursor.parse("abcd~10:10:")
UNTIL = Cursor.parse("abcd~12:12:").snapshot


class FakeConnection:
    """Finds an empty log, in which everything is kept."""

    def __init__(self) -> None:
        self.dead = self.closed = False
        self.before: Any = None

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        if self.before:
            self.before()
        if self.dead:
            raise ConnectionLost("gone")
        return [(True,)] if "pgevents.emptied" in statement else []

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.next_is_dead = False
        self.replay = Replay(Hub(), self.connect, 10)

    def connect(self) -> Connection:
        self.made.append(FakeConnection())
        self.made[-1].dead = self.next_is_dead
        return cast(Connection, self.made[-1])

    def page(self) -> Cursor:
        return self.replay.page(SINCE, UNTIL).cursor


def test_a_connection_waits_for_the_next_client() -> None:
    world = World()
    assert [world.page() for _ in range(3)] == [Cursor("abcd", UNTIL)] * 3
    assert len(world.made) == 1


def test_those_that_died_while_they_waited_cost_the_client_nothing() -> None:
    world = World()
    world.replay._idle += [world.connect(), world.connect()]
    for connection in world.made:
        connection.dead = True
    assert world.page() == Cursor("abcd", UNTIL)
    assert [connection.closed for connection in world.made] == [True, True, False]


def test_a_new_connection_that_fails_is_no_reason_to_try_for_ever() -> None:
    world = World()
    world.next_is_dead = True
    with pytest.raises(ConnectionLost):
        world.page()
    assert [connection.closed for connection in world.made] == [True]


def test_what_is_read_from_while_it_closes_is_closed_behind() -> None:
    world = World()
    world.page()
    world.made[0].before = world.replay.close
    world.page()
    assert world.made[0].closed
    assert not world.replay._idle


def test_the_last_one_that_waits_is_taken_by_one_of_two_threads() -> None:
    """It is seen by both: the one that comes second opens a connection of its own."""

    class Vanishing(list[Any]):
        def __bool__(self) -> bool:
            return True  # as seen before the other thread took it

        def __len__(self) -> int:
            return 1

    world = World()
    world.replay._idle = Vanishing()
    assert world.page() == Cursor("abcd", UNTIL)
