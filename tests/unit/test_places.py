"""Places are counted exactly, given back however a connection ends, and taken away from whom they are to be taken."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.config import Config
from pgevents_push.errors import RequestError, TooManyConnections, Unavailable
from pgevents_push.transports.places import OTHER_FILES, Place, Places
from tests.fixtures.clock import Clock


def places(clock: Clock | None = None, files: int | None = None, **settings: Any) -> Places:
    return Places(Config(**settings), clock or Clock(), lambda: 0.5, lambda: files)


def count(of: Places) -> int:
    return of.occupied().total()


# --- Caps


def test_a_process_takes_as_many_as_it_may_and_no_more() -> None:
    door = places(max_connections=3)
    kept = [door.take("sse", str(n)) for n in range(3)]
    with pytest.raises(Unavailable) as refused:
        door.take("websocket", "9")
    assert (refused.value.status, refused.value.retry_after) == (503, 2)
    kept.pop().leave()
    kept.append(door.take("websocket", "9"))
    assert door.occupied() == {"sse": 2, "websocket": 1}
    assert door.counts["refused_process"] == 1


def test_an_address_has_a_limit_of_its_own() -> None:
    door = places(max_connections_per_address=2)
    kept = [door.take("sse", "10.0.0.1") for _ in range(2)]
    with pytest.raises(TooManyConnections) as refused:
        door.take("sse", "10.0.0.1")
    assert (refused.value.status, refused.value.retry_after) == (429, 2)
    other = door.take("sse", "10.0.0.2")
    assert (len(kept) + 1, door.counts["refused_address"]) == (count(door), 1)
    other.leave()


def test_an_identity_has_a_limit_of_its_own_wherever_it_comes_from() -> None:
    door = places(max_connections_per_identity=2)
    kept = [door.take("sse", str(n)) for n in range(4)]
    kept[0].name("ann")
    kept[1].name("ann")
    with pytest.raises(TooManyConnections):
        kept[2].name("ann")
    kept[2].name("bob")
    kept[0].leave()
    kept[3].name("ann")
    assert [place.identity for place in kept] == ["ann", "ann", "bob", "ann"]


def test_nobody_in_particular_has_no_limit() -> None:
    door = places(max_connections_per_identity=1)
    kept = [door.take("sse", "a") for _ in range(5)]
    for place in kept:
        place.name(None)
    assert count(door) == 5


def test_zero_switches_a_limit_off() -> None:
    door = places(max_connections_per_address=0, max_connections_per_identity=0)
    kept = [door.take("sse", "a") for _ in range(2000)]
    for place in kept:
        place.name("ann")
    assert count(door) == 2000


@pytest.mark.parametrize(("files", "most"), [(None, 100), (1000, 100), (100, 100 - OTHER_FILES), (10, 1)])
def test_no_more_than_files_may_be_opened(files: int | None, most: int) -> None:
    door = places(files=files, max_connections=100)
    kept = [door.take("sse", str(n)) for n in range(most)]
    with pytest.raises(Unavailable):
        door.take("sse", "x")
    assert len(kept) == most


def test_a_refusal_says_in_the_log_why_but_not_each_time_nor_whose(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    door = places(clock, max_connections_per_address=1, max_connections_per_identity=1)
    kept = door.take("sse", "10.0.0.1\nFAKE"), door.take("sse", "b")
    kept[0].name("ann@example.com")
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            with pytest.raises(TooManyConnections):
                door.take("sse", "10.0.0.1\nFAKE")
        with pytest.raises(TooManyConnections):
            kept[1].name("ann@example.com")
        assert len(caplog.messages) == 2
        clock.now += 11
        with pytest.raises(TooManyConnections):
            door.take("sse", "10.0.0.1\nFAKE")
    assert len(caplog.messages) == 3
    assert r"10.0.0.1\nFAKE" in caplog.messages[0]
    assert not any("\n" in message or "ann" in message for message in caplog.messages)


# --- Giving back


def test_leaving_twice_is_leaving_once() -> None:
    door = places(max_connections=1)
    place = door.take("sse", "a")
    place.leave()
    place.leave()
    kept = door.take("sse", "a")
    with pytest.raises(Unavailable):
        door.take("sse", "a")
    kept.leave()
    assert count(door) == 0


def test_a_place_that_is_forgotten_is_given_back() -> None:
    door = places()

    def forget() -> None:
        door.take("sse", "a").name("ann")
        circle: list[Any] = [door.take("sse", "b")]
        circle.append(circle)

    forget()
    gc.collect()
    assert count(door) == 0
    assert door._of_address == {}
    assert door._of_identity == {}


class Taken:
    """What a test holds of each place."""

    def __init__(self, place: Place, address: str) -> None:
        self.place, self.address = place, address


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["take", "leave", "name"]), st.integers(0, 3)), max_size=60))
def test_counts_are_those_of_a_simple_model(steps: list[tuple[str, int]]) -> None:
    door = places(max_connections=6, max_connections_per_address=3, max_connections_per_identity=2)
    held: list[Taken] = []
    for verb, number in steps:
        if verb == "take":
            before = len(held), sum(taken.address == str(number) for taken in held)
            try:
                held.append(Taken(door.take("sse", str(number)), str(number)))
                assert before[0] < 6
                assert before[1] < 3
            except RequestError:
                assert before[0] >= 6 or before[1] >= 3
        elif verb == "leave" and held:
            held.pop(number % len(held)).place.leave()
        elif verb == "name" and held:
            place = held[number % len(held)].place
            if place.identity is None:
                _name(place, str(number), held)
        assert count(door) == len(held)
    for taken in held:
        taken.place.leave()
    assert (count(door), door._of_address, door._of_identity) == (0, {}, {})


def _name(place: Place, name: str, held: list[Taken]) -> None:
    same = sum(taken.place.identity == name for taken in held)
    try:
        place.name(name)
        assert same < 2
    except TooManyConnections:
        assert same == 2


# --- Ends


def test_an_identity_is_ended_and_nobody_else() -> None:
    door, ended = places(), list[str]()
    kept = [door.take("sse", "a") for _ in range(4)]
    for place, name in zip(kept, ("ann", "bob", "ann", None), strict=True):
        place.name(name)
        place.occupy(lambda reason, name=name: ended.append(f"{name} {reason}"))  # type: ignore[misc]
    assert door.end("ann", "revoked") == 2
    assert ended == ["ann revoked", "ann revoked"]
    assert door.end("nobody", "revoked") == 0
    assert door.counts["ended_revoked"] == 2


def test_who_is_revoked_while_being_authorised_ends_at_once() -> None:
    door, ended = places(), list[str]()
    place = door.take("sse", "a")
    place.name("ann")
    door.end("ann", "revoked")
    place.occupy(ended.append)
    assert ended == ["revoked"]


def test_a_life_has_an_end_before_the_longest_one_and_not_at_once() -> None:
    clock, ended = Clock(), list[str]()
    door = places(clock, max_stream_seconds=100)
    place = door.take("sse", "a")
    place.occupy(ended.append)
    clock.now += 69
    door.look()
    assert ended == []
    clock.now += 26
    door.look()
    door.look()
    assert ended == ["lifetime"]
    assert door.counts["ended_lifetime"] == 1


def test_lives_that_begin_together_do_not_end_together() -> None:
    clock, ended = Clock(), list[float]()
    door = Places(Config(max_stream_seconds=100), clock, files=lambda: None)
    kept = [door.take("sse", str(n)) for n in range(400)]
    for place in kept:
        place.occupy(lambda reason: ended.append(clock.now))
    for _ in range(100):
        clock.now += 1
        door.look()
    assert len(ended) == 400
    assert 70 <= min(ended) < 74 < 92 < max(ended) <= 96


def test_without_a_longest_life_nothing_ends() -> None:
    clock, ended = Clock(), list[str]()
    door = places(clock, max_stream_seconds=0)
    place = door.take("sse", "a")
    place.occupy(ended.append)
    clock.now += 1e9
    door.look()
    assert ended == []


def test_who_was_here_before_something_was_heard() -> None:
    clock, ended = Clock(), list[str]()
    door = places(clock)
    old = door.take("sse", "a")
    clock.now += 2
    new = door.take("sse", "a")
    for name, place in (("old", old), ("new", new)):
        place.occupy(lambda reason, name=name: ended.append(f"{name} {reason}"))  # type: ignore[misc]
    assert door.end_older(1.0, "lost") == 1
    assert ended == ["old lost"]
