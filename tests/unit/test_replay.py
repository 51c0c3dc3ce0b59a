"""Replay's connections to the log: those that died while they waited, those that are used when it closes."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from pgevents_push.cursor import Cursor
from pgevents_push.errors import BacklogError, ConnectionLost, Crowded, Overdue
from pgevents_push.extension import replay
from pgevents_push.extension.replay import Replay
from pgevents_push.hub import Hub
from pgevents_push.listener import Connection

SINCE = Cursor.parse("abcd~10:10:")
UNTIL = Cursor.parse("abcd~12:12:").snapshot


class FakeConnection:
    """Finds an empty log, in which everything is kept."""

    def __init__(self) -> None:
        self.dead = self.closed = self.slow = False
        self.before: Any = None

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        if self.before:
            self.before()
        if self.dead:
            raise ConnectionLost("gone")
        if self.slow:
            raise Overdue("canceling statement due to statement timeout")
        return [(True,)] if "pgevents.emptied" in statement else []

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self) -> None:
        self.made: list[FakeConnection] = []
        self.next_is_dead = self.slow = False
        self.replay = Replay(Hub(), self.connect, 10)

    def connect(self) -> Connection:
        self.made.append(FakeConnection())
        self.made[-1].dead, self.made[-1].slow = self.next_is_dead, self.slow
        return cast(Connection, self.made[-1])

    def page(self) -> Cursor:
        with self.replay.page(SINCE, UNTIL) as page:
            return page.cursor


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


def test_an_overdue_reading_is_not_tried_again_behind_the_clients_back() -> None:
    """Each attempt takes as long as PostgreSQL is allowed to, in which the client hears nothing."""
    world = World()
    world.replay._idle += [world.connect(), world.connect()]
    for connection in world.made:
        connection.slow = True
    with pytest.raises(Overdue):
        world.page()
    assert [connection.closed for connection in world.made] == [False, True]


def test_of_a_dead_network_one_connection_is_asked_and_no_other() -> None:
    world = World()
    asked: list[FakeConnection] = []
    world.replay._idle += [world.connect(), world.connect()]
    for connection in world.made:
        connection.dead = True
        connection.before = lambda connection=connection: asked.append(connection)
    world.page()
    assert asked == [world.made[1]]


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


def test_who_has_to_wait_says_so_and_is_not_asked_from_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand that wait for the log would else stand in line for memory each second, for nothing."""
    monkeypatch.setattr(replay, "PATIENCE_SECONDS", 0.05)
    world, remembered = World(), list[int]()
    monkeypatch.setattr(world.replay._hub, "remember", lambda *_: remembered.append(1))
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        leave.wait(20)

    connection = world.connect()
    world.made[-1].before = block
    world.replay._idle += [connection] * replay.READERS
    readers = [threading.Thread(target=world.page) for _ in range(replay.READERS)]
    for reader in readers:
        reader.start()
        assert entered.wait(20)
        entered.clear()
    for _ in range(3):
        with pytest.raises(Crowded):
            world.page()
    assert len(remembered) == replay.READERS + 1
    leave.set()
    for reader in readers:
        reader.join(20)
    assert world.page() == Cursor("abcd", UNTIL)


def test_too_much_to_be_read_in_time_is_said_after_a_few_attempts() -> None:
    """The first may be a bad moment of the database: the client waits, as while it is away."""
    world = World()
    world.slow = True
    for _ in range(2):
        with pytest.raises(Overdue):
            world.page()
    with pytest.raises(BacklogError):
        world.page()
    world.slow = False
    assert world.page() == Cursor("abcd", UNTIL)
