"""Doors show out who is revoked, and who was let in before anything was heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pgevents_push.config import Config
from pgevents_push.errors import ConnectionLost
from pgevents_push.event import ChangeEvent
from pgevents_push.extension.doors import Doors
from pgevents_push.listener import Connection
from pgevents_push.transports.places import Place
from pgevents_push.transports.ticket import Tickets


def away() -> Connection:
    raise ConnectionLost("away")


class FakeConnection:
    """Its log says that zoe was revoked a moment ago."""

    def execute(self, statement: str, values: Any) -> list[tuple[str]]:
        assert "revoked" in statement
        return [("zoe",)]

    def close(self) -> None:
        pass


class World:
    def __init__(self, connect: Callable[[], Any] = away) -> None:
        self.doors = Doors(Config(), lambda: Tickets(["k"], "p", "public", 32), lambda: None, connect)
        self.ended: list[str] = []
        self.places: list[Place] = []

    def let_in(self, name: str, seconds_ago: float = 0.0) -> None:
        place = self.doors.places.take("sse", "a")
        place._seat.taken_at -= seconds_ago
        place.name(name)
        place.occupy(lambda reason: self.ended.append(f"{name} {reason}"))
        self.places.append(place)


def revocation(identity: str) -> ChangeEvent:
    return ChangeEvent(
        id="1", type="insert", schema="pgevents", table="revoked", tx="1", last=True, cursor="",
        at_text="2026-01-01T00:00:00+00:00", pk_json=f'{{"identity": "{identity}"}}',
    )  # fmt: skip


def test_what_the_log_says_is_done() -> None:
    world = World()
    for name in ("ann", "bob", "ann"):
        world.let_in(name)
    world.doors.hear([revocation("ann"), revocation("zoe")], first=False)
    assert world.ended == ["ann revoked", "ann revoked"]


def test_who_came_before_the_first_position_may_have_been_revoked_unheard() -> None:
    world = World(FakeConnection)
    world.let_in("ann", seconds_ago=5)
    world.let_in("bob")
    world.let_in("zoe")
    world.doors.hear([], first=False)
    assert world.ended == []
    world.doors.hear([], first=True)
    assert world.ended == ["ann lost", "zoe revoked"]


def test_where_nobody_can_tell_who_was_revoked_all_have_to_come_back() -> None:
    world = World(away)
    world.let_in("bob", seconds_ago=0.1)
    world.doors.hear([], first=True)
    assert world.ended == ["bob lost"]


def test_here_it_is_done_although_the_others_cannot_be_told() -> None:
    world = World()
    world.let_in("ann")
    with pytest.raises(ConnectionLost):
        world.doors.revoke("ann")
    assert world.ended == ["ann revoked"]
    world.doors.stop()
