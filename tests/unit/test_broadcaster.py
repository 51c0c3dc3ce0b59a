"""The broadcaster, driven by hand: shares of a slice, turns of the channels, silence, slow clients and ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from pgevents_push.config import Config
from pgevents_push.cursor import Snapshot
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, Gap, TableName
from pgevents_push.hub import Hub, Pending, Persona, Subscription, View
from pgevents_push.hub.definition import Mark
from pgevents_push.testing import make_event
from pgevents_push.transports import broadcaster as broadcasters
from pgevents_push.transports import peer
from pgevents_push.transports.broadcaster import SLICE
from pgevents_push.transports.framing import Framing
from pgevents_push.transports.places import Place, Places
from pgevents_push.transports.sse_format import COMMENT, encode_json
from tests.fixtures.driven import Driven

ORDERS, OTHERS = TableName("public", "orders"), TableName("public", "others")
PLAIN = Framing(False)


def _encode(event: ChangeEvent | Gap, view: View) -> bytes | None:
    if not isinstance(event, Gap) and event.id == "bad":
        raise ValueError("a bug")
    return encode_json(event, view)


class World:
    """A hub, a broadcaster, and clients at the other ends of socketpairs."""

    def __init__(self, stack: ExitStack, **settings: Any) -> None:
        self._stack = stack
        self.config = Config(**{"heartbeat_seconds": 60.0, "max_connections_per_identity": 0, **settings})
        self.hub = Hub()
        self.hub.publish([], "ab~1:1:")
        self.broadcaster = Driven(self.hub, self.config)
        self.places = Places(self.config)
        self.persona: Persona | None = None
        self._taken = 0
        self._number = 0

    def client(
        self, table: TableName = ORDERS, framing: Framing = PLAIN, queued: int = 0, label: str = ""
    ) -> socket.socket:
        """Hand a connection over; return its other end. With a label it has the same frames and another channel, as if
        it had rights of its own."""
        server, client = socket.socketpair()
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.settimeout(5)
        self._stack.callback(client.close)
        mark = Mark(((label, "700"),), 700, Snapshot(1, 1)) if label else None
        views = [View(table, frozenset(CHANGE_TYPES), None, None, _encode, mark=mark, persona=self.persona)]
        own = self.hub.connect(self.config.max_queue_bytes)
        place = self.places.take("sse", None)
        place.name("ann")
        self._taken += 1
        assert self.hub.subscribe(own, views, 0)
        for _ in range(queued):
            self.publish(table)
        if not self.broadcaster.adopt(server, own, views, framing, place):
            server.close()
        return client

    @property
    def left(self) -> int:
        """How many have given their place back."""
        return self._taken - self.places.occupied()["sse"]

    def publish(self, table: TableName = ORDERS, size: int = 10) -> None:
        self._number += 1
        event = make_event(table, "insert").replace(
            id=str(self._number), row_json=f'"{"x" * size}"', cursor=f"ab~{self._number}:{self._number}:"
        )
        self.hub.publish([event], event.cursor)

    def work(self, slices: int = 1000) -> int:
        """Work until nothing is to be done; return in how many slices."""
        for number in range(slices):
            if not self.broadcaster._work(self.broadcaster._start()):
                return number + 1
        return slices


def text(client: socket.socket) -> str:
    """What has arrived."""
    client.setblocking(False)
    try:
        return client.recv(1 << 20).decode()
    except BlockingIOError:
        return ""


def ids(data: str) -> list[int]:
    return [int(part.split('"')[0]) for part in data.split('{"id":"')[1:]]


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    with ExitStack() as stack:

        def make_(**settings: Any) -> World:
            world = World(stack, **settings)
            stack.callback(world.broadcaster.close)
            return world

        yield make_


def test_what_waited_comes_first_and_all_that_is_queued_is_one_write(make: Callable[..., World]) -> None:
    world = make()
    client = world.client(framing=Framing(True), queued=2)
    assert ids(text(client)) == [1, 2]
    world.publish()
    world.publish()
    world.work()
    data = text(client)
    assert ids(data) == [3, 4]
    assert data.count("\r\n") == 2, "one chunk"
    assert world.hub.counts["deliveries"] == 2 + 2


def test_others_have_a_turn_after_each_slice(make: Callable[..., World]) -> None:
    world = make()
    clients = [world.client() for _ in range(3 * SLICE)]
    assert (world.hub.connections, world.hub.mailboxes) == (3 * SLICE, 1)
    world.publish()
    world.work(1)
    assert sum(bool(text(client)) for client in clients) == SLICE
    assert world.work() >= 2
    assert all(ids(text(client)) == [1] for client in clients[SLICE:])


def test_what_comes_meanwhile_is_not_forgotten(make: Callable[..., World]) -> None:
    world = make()
    clients = [world.client() for _ in range(2 * SLICE)]
    world.publish()
    world.work(1)
    world.publish()
    world.work()
    got = [ids(text(client)) for client in clients]
    assert got == [[1, 2]] * len(clients)
    assert world.broadcaster.kept == 0


def test_a_small_channel_does_not_wait_for_a_large_one(make: Callable[..., World]) -> None:
    world = make()
    crowd = [world.client() for _ in range(10 * SLICE)]
    single = world.client(OTHERS)
    for _ in range(300):
        world.publish(size=2000)
    world.publish(OTHERS)
    world.work(2)
    assert ids(text(single)) == [301]
    assert not text(crowd[-1])


def test_many_channels_of_one_client_share_a_slice(make: Callable[..., World]) -> None:
    world = make()
    clients = [world.client(framing=Framing(n % 3 == 0), label=str(n)) for n in range(3 * SLICE)]
    assert (world.hub.connections, world.hub.mailboxes) == (3 * SLICE, 3 * SLICE)
    world.publish()
    world.work(1)
    assert sum(bool(client.recv(9, socket.MSG_PEEK)) for client in clients[:SLICE]) == SLICE
    assert not any(map(text, clients[SLICE:]))
    world.publish()
    world.work()
    for n, client in enumerate(clients):
        data = text(client)
        assert ids(data) == [1, 2]
        assert data.startswith("id:") is (n % 3 != 0), "each is framed as it wants"
    assert not world.broadcaster._rounds
    assert not any(channel.queued_bytes for channel in world.broadcaster._channels.values()), "nothing is kept"


def test_who_has_a_channel_alone_and_who_shares_one_wait_alike(make: Callable[..., World]) -> None:
    world = make()
    alone = [world.client(label=str(n)) for n in range(2 * SLICE)]
    crowd = [world.client() for _ in range(2 * SLICE)]
    world.publish()
    world.work(2)
    assert sum(bool(text(client)) for client in alone) == SLICE
    assert sum(bool(text(client)) for client in crowd) == SLICE


def test_a_second_client_joins_while_the_first_is_to_be_served(make: Callable[..., World]) -> None:
    world = make()
    first = world.client(label="x")
    world.publish()
    second = world.client(label="x")
    world.publish()
    world.work()
    assert (ids(text(first)), ids(text(second))) == ([1, 2], [2])
    assert world.broadcaster.kept == 0


def test_who_is_alone_and_takes_nothing_is_ended(make: Callable[..., World]) -> None:
    world = make(max_queue_bytes=100_000)
    slow, other = world.client(label="x"), world.client(label="y")
    for number in range(1, 201):
        world.publish(size=1000)
        world.work()
        assert ids(text(other)) == [number]
    assert (world.hub.counts["overflows"], world.broadcaster.kept) == (1, 0)
    data = ""
    while "bye" not in data:
        data += text(slow)
        world.work()
    assert ids(data) == list(range(1, len(ids(data)) + 1))
    assert (world.hub.connections, world.left, len(world.broadcaster._channels)) == (1, 1, 1)


def test_who_takes_nothing_keeps_nobody_waiting_and_is_ended(make: Callable[..., World]) -> None:
    world = make(max_queue_bytes=100_000)
    slow, fast = world.client(), world.client()
    got: list[int] = []
    for _ in range(200):
        world.publish(size=1000)
        world.work()
        got += ids(text(fast))
    assert got == list(range(1, 201))
    assert world.hub.counts["overflows"] == 1
    assert world.broadcaster.kept == 0, "nothing is kept for it"
    assert world.hub.connections == 2, "its last words are still to be said"
    data = ""
    while "bye" not in data:
        data += text(slow)
        world.work()
    assert ids(data) == list(range(1, len(ids(data)) + 1))
    assert '"reason":"slow"' in data
    assert slow.recv(10) == b""
    assert (world.hub.connections, world.left) == (1, 1)


def test_who_goes_on_reading_gets_everything(make: Callable[..., World]) -> None:
    world = make()
    client, data = world.client(), ""
    for _ in range(100):
        world.publish(size=1000)
    while len(ids(data)) < 100 or not data.endswith("\n\n"):
        world.work()
        data += text(client)
    assert ids(data) == list(range(1, 101))
    world.publish()
    world.work()
    assert ids(text(client)) == [101]
    assert world.broadcaster.kept == 0


@pytest.mark.parametrize("how", [lambda client: client.close(), lambda client: client.shutdown(socket.SHUT_WR)])
def test_who_leaves_is_forgotten_without_an_event(make: Callable[..., World], how: Any) -> None:
    world = make()
    clients = [world.client() for _ in range(3)]
    how(clients[1])
    world.work()
    assert (world.hub.connections, world.broadcaster.connections, world.left) == (2, 2, 1)
    for client in (clients[0], clients[2]):
        how(client)
    world.work()
    assert (world.hub.connections, world.left, len(world.hub._audiences), world.broadcaster._channels) == (0, 3, 0, {})


def test_silence_is_broken(make: Callable[..., World]) -> None:
    world = make(heartbeat_seconds=0.2)
    client = world.client()
    world.publish()
    ends = time.monotonic() + 30
    data = ""
    while data.count("event: sync") < 3:
        world.work()
        data += text(client)
        assert time.monotonic() < ends
        time.sleep(0.002)
    assert "id: ab~1:1:\nevent: sync\ndata: {}" in data


def test_who_is_stuck_for_long_is_dropped(make: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(heartbeat_seconds=0.1)
    world.client()
    world.publish(size=500_000)
    world.work()
    assert world.broadcaster.connections == 1
    monkeypatch.setattr(peer, "STUCK_SECONDS", 0.05)
    ends = time.monotonic() + 30
    while world.broadcaster.connections:
        world.work()
        assert time.monotonic() < ends
        time.sleep(0.002)
    assert world.left == 1


@pytest.mark.parametrize("chunked", [True, False])
def test_the_end_comes_behind_what_waits(make: Callable[..., World], chunked: bool) -> None:
    world = make()
    client = world.client(framing=Framing(chunked))
    world.publish()
    world.hub.close("shutdown")
    world.publish()  # after the end: none of its business
    world.work()
    data = text(client)
    assert ids(data) == [1]
    assert '"reason":"shutdown"' in data
    assert data.endswith("0\r\n\r\n" if chunked else "\n\n")
    assert client.recv(10) == b""
    assert world.hub.connections == 0


def test_whoever_ends_a_place_ends_its_stream(make: Callable[..., World]) -> None:
    world = make()
    client, other = world.client(), world.client()
    world.publish()
    assert world.places.end("ann", "revoked") == 2
    world.work()
    for one in (client, other):
        data = text(one)
        assert ids(data) == [1]
        assert '"reason":"revoked"' in data
        assert one.recv(10) == b""
    assert (world.left, world.hub.connections) == (2, 0)


def test_what_is_published_before_a_connection_can_change_hands_comes_once(make: Callable[..., World]) -> None:
    """Whoever wants to enter waits for the hub, while that publishes."""
    world = make()
    first, share = world.client(), world.hub.share

    def share_later(*arguments: Any) -> Any:
        world.publish()
        return share(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.hub, "share", share_later)
        second = world.client()
    world.publish()
    world.work()
    assert ids(text(first)) == ids(text(second)) == [1, 2]


def test_who_was_revoked_while_the_connection_changed_hands_is_ended(make: Callable[..., World]) -> None:
    world = make()
    occupy = Place.occupy

    def revoked_first(place: Place, end: Any) -> None:
        world.places.end("ann", "revoked")
        occupy(place, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Place, "occupy", revoked_first)
        client = world.client()
    world.work()
    assert '"reason":"revoked"' in text(client)


# --- Rows that PostgreSQL has yet to judge


class Judge:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.line: list[Pending] = []

    def put(self, pending: Sequence[Pending]) -> None:
        self.line += pending

    answer = put

    def say(self, now: bool = True) -> None:
        self.line.pop(0).judge(False, now)


ANN = Persona("web", (("app.user", "ann"),))


def judged(make: Callable[..., World], **settings: Any) -> tuple[World, Judge]:
    world, judge = make(**settings), Judge()
    world.hub.judge = judge
    world.persona = ANN
    return world, judge


def test_what_is_pending_is_overtaken_by_nothing(make: Callable[..., World]) -> None:
    world, judge = judged(make)
    client = world.client()
    for _ in range(4):
        world.publish()
    world.work()
    assert text(client) == ""
    judge.line[1].judge(False, False)  # nothing for her
    del judge.line[1]
    world.work()
    assert text(client) == ""
    judge.say()
    late = world.client()
    world.publish()
    world.work()
    assert ids(text(client)) == [1]
    while judge.line:
        judge.say()
    world.work()
    assert ids(text(client)) == [3, 4, 5]
    assert ids(text(late)) == [5], "who comes later is told nothing that was before"
    assert world.broadcaster.kept == 0


def test_no_sync_says_that_what_is_pending_was_sent(make: Callable[..., World]) -> None:
    world, judge = judged(make, heartbeat_seconds=0.05)
    client = world.client()
    world.publish()
    ends = time.monotonic() + 0.3
    while time.monotonic() < ends:
        world.work()
        time.sleep(0.005)
    assert text(client).replace(COMMENT.decode(), "") == ""
    judge.say()
    world.work()
    assert ids(text(client)) == [1]


def test_a_connection_is_not_taken_while_something_is_pending(make: Callable[..., World]) -> None:
    world, judge = judged(make)
    world.client(queued=1)
    assert (world.broadcaster.connections, world.broadcaster._channels) == (0, {})
    assert world.hub.connections == 1, "its own mailbox still has it"
    [own] = world.hub._views
    judge.say()
    assert isinstance(own, Subscription)
    assert len(own.take(0)) == 1


def test_too_much_behind_what_is_pending_ends_the_streams(make: Callable[..., World]) -> None:
    world, judge = judged(make, max_queue_bytes=2000)
    client = world.client()
    for _ in range(20):
        world.publish(size=100)
    late = world.client()
    world.publish()
    world.work()
    for one in (client, late):
        data = text(one)
        assert ids(data) == []
        assert '"reason":"slow"' in data
    assert world.hub.counts["overflows"] == 2
    judge.say()
    world.work()
    assert world.hub.connections == 0


def test_stop_says_the_last_words_of_many(make: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasters, "STOP_SECONDS", 2.0)
    world = make()
    clients = [world.client() for _ in range(2 * SLICE)]
    stuck = world.client(OTHERS)
    world.publish(OTHERS, size=500_000)
    world.work()
    world.hub.close("shutdown")
    world.broadcaster.stop()
    assert all('"reason":"shutdown"' in text(client) for client in clients)
    assert "bye" not in text(stuck)
    assert (world.broadcaster.connections, world.hub.connections) == (0, 0)
    world.broadcaster.stop()


def test_an_encoder_that_fails_ends_the_streams_of_its_channel(make: Callable[..., World]) -> None:
    world = make()
    client, other = world.client(), world.client(OTHERS)
    world.hub.publish([make_event(ORDERS, "insert").replace(id="bad")], "ab~2:2:")
    world.work()
    assert '"reason":"failed"' in text(client)
    world.publish(OTHERS)
    world.work()
    assert ids(text(other)) == [1]
