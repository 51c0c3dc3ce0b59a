"""The entrance asks in the right order, and keeps no place of whom it refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort, request

from pgevents_push.config import Config
from pgevents_push.errors import (
    BadParameter,
    ConnectionLost,
    Forbidden,
    RequestError,
    TooManyConnections,
    Unauthorized,
    Unavailable,
)
from pgevents_push.transports.entrance import Entrance, Visit, identity_of_caller
from pgevents_push.transports.places import Places
from pgevents_push.transports.ticket import Tickets

TICKETS = Tickets(["key"], "p", "public", 32)


class World:
    """An entrance, and what it asked whom in which order."""

    def __init__(self, identity: object = "ann", **settings: Any) -> None:
        self.asked: list[str] = []
        self.answer = identity
        self.database_is_away = False
        self.spent: set[str] = set()
        config = Config(**settings)
        self.places = Places(config, files=lambda: None)
        self.entrance = Entrance(self.places, self.identify, TICKETS, self.spend, config)

    def identify(self) -> object:
        self.asked.append("identify")
        return self.answer() if callable(self.answer) else self.answer

    def spend(self, number: str) -> bool:
        self.asked.append("spend")
        if self.database_is_away:
            raise ConnectionLost
        fresh = number not in self.spent
        self.spent.add(number)
        return fresh

    def enter(self, query: str = "") -> Visit:
        environ = {"REMOTE_ADDR": "10.0.0.1", "RAW_URI": f"/x?{query}"}
        with Flask("app").test_request_context(f"/x?{query}", environ_base=environ):
            self.environ = request.environ
            return self.entrance.enter(request, "sse")

    @property
    def inside(self) -> int:
        return self.places.occupied().total()


def refuse(world: World, error: type[RequestError], query: str = "") -> None:
    before = world.inside
    with pytest.raises(error):
        world.enter(query)
    assert world.inside == before, "a place was kept"


def test_who_is_let_in_has_a_place_and_a_name() -> None:
    world = World()
    visit = world.enter()
    assert (visit.identity, world.inside) == ("ann", 1)
    visit.place.leave()
    assert world.inside == 0


def test_nobody_is_asked_for_a_name_when_there_is_no_room() -> None:
    world = World(max_connections_per_address=1)
    kept = world.enter()
    world.asked.clear()
    refuse(world, TooManyConnections)
    refuse(world, TooManyConnections, f"ticket={TICKETS.issue('ann', {'table': ['t']})}")
    assert world.asked == []
    kept.place.leave()


def test_a_long_query_is_refused_before_anything_else() -> None:
    world = World(max_query_bytes=100)
    refuse(world, BadParameter, "x" * 101)
    assert world.asked == []
    world.enter("x" * 100).place.leave()


def test_one_name_has_a_limit() -> None:
    world = World(max_connections_per_identity=1)
    kept = world.enter()
    refuse(world, TooManyConnections)
    kept.place.leave()
    assert world.enter().identity == "ann"


# --- identify


@pytest.mark.parametrize("answer", [7, b"ann", "", True, 0.5, ["ann"], object()])
def test_what_is_no_name_is_denied_and_said(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    refuse(World(answer), Forbidden)
    assert f"identify returned {type(answer).__name__}" in caplog.text


def aborts(code: int) -> Callable[[], object]:
    return lambda: abort(code)


def fails() -> object:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("answer", "error"),
    [(aborts(401), Unauthorized), (aborts(403), Forbidden), (aborts(500), Forbidden), (fails, Forbidden)],
)
def test_identify_may_refuse_and_a_failure_denies(
    answer: Callable[[], object], error: type[RequestError], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        refuse(World(answer), error)
    assert ("identify failed" in caplog.text) is (answer is fails)


def test_without_identify_nobody_has_a_name() -> None:
    assert identity_of_caller(None) is None
    assert World(None).enter().identity is None


# --- Tickets


def test_a_ticket_names_its_holder_and_nobody_else_is_asked() -> None:
    world = World("somebody else")
    visit = world.enter(f"table=t&ticket={TICKETS.issue('ann', {'table': ['t']})}")
    assert (visit.identity, world.asked) == ("ann", ["spend"])
    assert "ticket=-" in world.environ["QUERY_STRING"]
    assert world.environ["RAW_URI"] == "/x?table=t&ticket=-"


def test_a_ticket_is_good_once() -> None:
    world = World()
    text = TICKETS.issue("ann", {"table": ["t"]})
    world.enter(f"ticket={text}")
    refuse(world, Unauthorized, f"ticket={text}")
    assert world.places.counts["refused_ticket"] == 1


def test_nonsense_reaches_no_database() -> None:
    world = World()
    for text in ("", "x", "a.b.c", "\u00e9"):
        refuse(world, Unauthorized, f"ticket={text}")
    assert world.asked == []


def test_a_ticket_that_was_refused_for_another_reason_is_not_spent() -> None:
    world = World(max_connections_per_identity=1)
    kept, text = world.enter(), TICKETS.issue("ann", {"table": ["t"]})
    refuse(world, TooManyConnections, f"ticket={text}")
    kept.place.leave()
    assert world.enter(f"ticket={text}").identity == "ann"


def test_when_nobody_knows_whether_it_was_used_it_opens_nothing() -> None:
    world = World()
    world.database_is_away = True
    refuse(world, Unavailable, f"ticket={TICKETS.issue('ann', {'table': ['t']})}")
