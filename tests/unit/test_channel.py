"""A channel: what many clients read, each at its own pace; everybody gets everything once and in order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.event import TableName
from pgevents_push.hub import Pending, Sight
from pgevents_push.testing import make_event
from pgevents_push.transports import channel as channels
from pgevents_push.transports.channel import Channel, Client, Round
from pgevents_push.transports.framing import Framing

PLAIN = Framing(False)


class Later(Pending):
    """A frame that becomes known later, or turns out to be none."""

    def __init__(self) -> None:
        super().__init__(Sight(make_event(TableName("public", "orders"), "insert"), Counter()), None, None)  # type: ignore[arg-type]

    def settle(self, frame: bytes | None) -> None:
        self._settle(frame)


class Kernel:
    """What a client's socket takes."""

    def __init__(self) -> None:
        self.taken = b""

    def send(self, data: bytes | memoryview) -> int:
        self.taken += data
        return len(data)


def channel(framing: Framing = PLAIN, max_bytes: int = 100_000) -> tuple[Channel, list[Channel]]:
    told: list[Channel] = []
    return Channel((frozenset(), framing), told.append, max_bytes), told


def join(one: Channel) -> tuple[Client, list[Client]]:
    ended: list[Client] = []
    client = Client(one, Kernel(), ended.append, lambda: None)
    one.members[client] = None
    return client, ended


def test_who_joins_gets_what_comes_afterwards() -> None:
    one, _ = channel()
    early, _ = join(one)
    assert one.put(b"a") == 1
    late, _ = join(one)
    assert one.put(b"b") == 2
    assert one.after(early.position) == (b"ab", 2)
    assert one.after(late.position) == (b"b", 2)
    assert one.after(2) == (b"", 2)


def test_what_several_want_is_joined_and_framed_once() -> None:
    one, _ = channel(Framing(True))
    one.put(b"a")
    one.put(b"b")
    first, second = one.after(0)[0], one.after(0)[0]
    assert first == b"2\r\nab\r\n"
    assert first is second
    one.put(b"c")
    assert one.after(0)[0] == b"3\r\nabc\r\n"


def test_a_write_is_bounded_but_for_one_large_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "WRITE_BYTES", 4)
    one, _ = channel()
    for frame in (b"ab", b"cd", b"e", b"much too large", b"f"):
        one.put(frame)
    found, position = [], 0
    while (answer := one.after(position))[0]:
        found.append(answer[0])
        position = answer[1]
    assert found == [b"abcd", b"e", b"much too large", b"f"]
    assert one.between(1, 3) == (b"cde", 3)
    assert one.between(3, 3) == (b"", 3)


def test_an_only_client_takes_what_it_lacks_and_it_is_forgotten() -> None:
    one, _ = channel()
    client, _ = join(one)
    assert one.take(client) == b"", "there is nothing"
    one.put(b"a")
    assert one.after(client.position) == (b"a", client.position + 1)
    assert one.take(client) == b"a"
    assert (client.position, one.queued_bytes, one.lag(client.position)) == (one.end, 0, 0)
    assert one._made == (b"", 0), "what was joined is not kept either"
    one.put(b"b")
    one.put(b"cd")
    assert one.take(client) == b"bcd"
    assert (client.position, one.queued_bytes) == (one.end, 0)
    later = Later()
    one.put(later)
    behind, _ = join(one)
    later.settle(b"e")
    one.members.pop(client)
    assert one.take(behind) == b"", "it came behind this frame"
    one.put(b"f")
    assert one.take(behind) == b"f"


def test_it_says_once_that_there_is_something_new() -> None:
    one, told = channel()
    one.put(b"a")
    one.put(b"b")
    assert told == [one]
    one.is_fresh = False
    one.put(b"c")
    assert told == [one, one]


def test_lag_is_what_was_not_sent() -> None:
    one, _ = channel()
    for frame in (b"abc", b"de", b"f"):
        one.put(frame)
    assert [one.lag(position) for position in range(4)] == [6, 3, 1, 0]
    one.forget(2)
    assert (one.queued_bytes, one.lag(2), one.lag(3), one.after(2)) == (1, 1, 0, (b"f", 3))
    one.put(b"gh")
    assert (one.queued_bytes, one.after(3)) == (3, (b"gh", 4))


def test_the_end_of_a_channel_is_that_of_its_members() -> None:
    one, _ = channel()
    (first, ended), (second, _) = join(one), join(one)
    first.close("departed")
    one.close("failed")
    one.close("lost")
    assert (first.closed, second.closed) == ("departed", "failed")
    assert ended == [first]


def test_a_round_begins_anew_when_something_came_meanwhile() -> None:
    one, _ = channel()
    (first, _), (second, _) = join(one), join(one)
    one.put(b"a")
    turn = Round(one)
    for number, client in enumerate(turn.clients):
        _, client.position = one.after(client.position)
        if not number:
            one.put(b"b")
        turn.note(client)
    turn.end()
    assert not turn.is_over
    assert (first.position, second.position, one.queued_bytes) == (1, 2, 1)
    for client in turn.clients:
        _, client.position = one.after(client.position)
        turn.note(client)
    turn.end()
    assert (turn.is_over, one.is_fresh, one.queued_bytes) == (True, False, 0)


def test_frames_are_kept_for_the_stuck_and_not_for_the_gone() -> None:
    one, _ = channel()
    (first, _), (second, _) = join(one), join(one)
    one.put(b"a")
    turn = Round(one)
    first.rest = memoryview(b"x")
    for client in turn.clients:
        if client is second:
            _, client.position = one.after(client.position)
        turn.note(client)
    turn.end()
    assert (turn.is_over, one.queued_bytes) == (True, 1), "nobody waits for who cannot take anything"
    del one.members[first]
    turn = Round(one)
    for client in turn.clients:
        turn.note(client)
    turn.end()
    assert one.queued_bytes == 0


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_everybody_gets_everything_once_and_in_order(seed: int, most: int) -> None:
    """Clients that come, go, get stuck and go on at random, and frames that are known later or turn out to be none:
    what each has got is what came while it was there."""
    chance = random.Random(seed)
    one, _ = channel()
    came: list[bytes] = []
    later: dict[int, Later] = {}
    here: dict[Client, tuple[int, list[bytes]]] = {}
    for _ in range(80):
        what = chance.random()
        if what < 0.1:
            later[len(came)] = Later()
            one.put(later[len(came)])
            came.append(b"")
        elif what < 0.2 and later:
            number = chance.choice(list(later))
            _settle(later, came, number, chance.choice([b"", b"%d;" % number]))
        elif what < 0.3:
            came.append(b"%d;" % len(came))
            one.put(came[-1])
        elif what < 0.4:
            client, _ = join(one)
            here[client] = (len(came), [])
        elif what < 0.45 and here:
            gone = chance.choice(list(here))
            del here[gone], one.members[gone]
        elif what < 0.6 and here:
            stuck = chance.choice(list(here))
            stuck.rest = None if stuck.rest is not None else memoryview(b"x")
        else:
            _go_round(one, here, chance.randint(1, most))
    _let_all_go_on(one, here, most, came, later)
    for client, (since, got) in here.items():
        assert b"".join(got) == b"".join(came[since:]), client.position
    assert one.queued_bytes == 0


def _settle(later: dict[int, Later], came: list[bytes], number: int, frame: bytes) -> None:
    came[number] = frame
    later.pop(number).settle(frame or None)


def _let_all_go_on(
    one: Channel, here: dict[Client, tuple[int, list[bytes]]], most: int, came: list[bytes], later: dict[int, Later]
) -> None:
    for number in list(later):
        _settle(later, came, number, b"%d;" % number)
    for client in here:
        client.rest = None
    _go_round(one, here, most)


def _go_round(one: Channel, here: dict[Client, tuple[int, list[bytes]]], write: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "WRITE_BYTES", write)
        turn = Round(one)
        while not turn.is_over:
            for client in turn.clients:
                if client.rest is None:
                    data, client.position = one.after(client.position)
                    here[client][1].append(data)
                turn.note(client)
            turn.end()
