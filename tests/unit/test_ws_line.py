"""A socket between silence and talk, driven by hand: what is written first, who closes what, and nothing is lost."""

from __future__ import annotations

import gc
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import Hub, Pending, Persona, View
from pgevents_push.hub.sight import Sight
from pgevents_push.testing import make_event
from pgevents_push.transports import crowd as crowds
from pgevents_push.transports.broadcaster import SLICE
from pgevents_push.transports.channel import Client
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.places import Places
from pgevents_push.transports.ws_caller import Caller
from pgevents_push.transports.ws_line import WIRE, Line, Talk
from pgevents_push.transports.ws_protocol import encode_change
from tests.fixtures.driven import Driven
from tests.fixtures.ws_client import client_frame

VIEW = View(TableName("public", "t"), frozenset(CHANGE_TYPES), None, None, encode_change, "1")
OTHER = View(TableName("public", "t"), frozenset(CHANGE_TYPES), None, None, encode_change, "2")
PING = client_frame(0x81, b'{"type":"ping"}')


class World:
    """A hub, a broadcaster, and one socket; its greenlets run when the test says so."""

    max_message_bytes, send_timeout = 65_536, 5.0

    def __init__(self, stack: ExitStack) -> None:
        config = Config(heartbeat_seconds=60.0, max_connections_per_identity=0)
        self.hub, self.places = Hub(), Places(config)
        self.hub.publish([], "ab~1:1:")
        self.broadcaster = Driven(self.hub, config)
        self.tasks: list[Callable[[], None]] = []
        self.failures: list[AssertionError] = []
        self.does: Callable[[Talk, list[View]], None] = lambda talk, views: self.stay_silent(talk, views)
        self.number = 0
        self._stack = stack
        self.line, self.client = self.connect()

    def connect(self) -> tuple[Line, socket.socket]:
        """Hand a socket over that sees the table; return its line, and the client's end of it."""
        server, client = socket.socketpair()
        server.setblocking(False)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.settimeout(5)
        self._stack.callback(client.close)
        place = self.places.take("websocket", None)
        place.name("ann")
        own = self.hub.connect(1_000_000)
        assert self.hub.subscribe(own, [VIEW], 0)
        caller: Any = Caller.__new__(Caller)
        line = Line(self.broadcaster, self, caller, Visit(place))
        assert self.broadcaster.adopt(server, own, [VIEW], WIRE, place, line)
        return line, client

    def converse(self, talk: Talk, views: Iterable[View], caller: Caller, visit: Visit) -> None:
        try:
            self.does(talk, list(views))
        except AssertionError as error:  # which the line takes for a bug of ours
            self.failures.append(error)
        finally:
            self.hub.disconnect(talk.mailbox)

    def stay_silent(self, talk: Talk, views: list[View]) -> None:
        talk.messages()
        talk.write(talk.mailbox.take(0))
        assert talk.rest(views)

    def publish(self, size: int = 10) -> None:
        self.number += 1
        cursor = f"ab~{self.number + 1}:{self.number + 1}:"
        event = make_event("t", "insert").replace(id=str(self.number), row_json=f'"{"x" * size}"', cursor=cursor)
        self.hub.publish([event], event.cursor)

    def say(self, data: bytes) -> None:
        self.client.sendall(data)
        self.work()

    def work(self) -> None:
        for _ in range(100):
            if not self.broadcaster._work(self.broadcaster._start()):
                return

    def run(self) -> None:
        while self.tasks:
            self.tasks.pop(0)()
        for failure in self.failures:
            raise failure

    @property
    def occupied(self) -> int:
        return self.places.occupied()["websocket"]

    def received(self) -> list[int]:
        """The ids of all changes that arrived, whole, by now."""
        found, data = [], bytearray()
        self.client.setblocking(False)
        while True:
            try:
                more = self.client.recv(65_536)
            except BlockingIOError:
                self.work()
                try:
                    more = self.client.recv(65_536)
                except BlockingIOError:
                    break
            if not more:
                break
            data += more
        while data:
            size = data[1] & 0x7F
            at, size = (2, size) if size < 126 else (4, int.from_bytes(data[2:4], "big"))
            if data[0] == 0x81:
                found.append(int(json.loads(data[at : at + size]).get("id", -1)))
            del data[: at + size]
        return found


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with ExitStack() as stack:
        one = World(stack)
        monkeypatch.setattr(waiting, "spawn", lambda task, *more, name: one.tasks.append(lambda: task(*more)))
        yield one
        one.broadcaster.close()


def test_a_message_is_a_talk_and_then_there_is_silence_again(world: World) -> None:
    opened: list[float] = []

    def take_note(talk: Talk, views: list[View]) -> None:
        opened.append(talk.mailbox.opened_at)
        world.stay_silent(talk, views)

    world.does = take_note
    world.say(PING)
    assert len(world.tasks) == 1
    world.publish()
    world.run()
    assert opened == [world.line.client.opened_at], "the connection is as old as it was"
    world.publish()
    world.work()
    assert world.received() == [1, 2]
    assert (world.hub.connections, len(world.hub._views), len(world.broadcaster._channels)) == (1, 0, 1)


def test_what_was_not_sent_goes_along_and_the_half_frame_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(30):
        world.publish(5000)
    world.work()
    assert world.line.client.rest is not None
    world.say(PING)
    for _ in range(5):
        world.publish(5000)

    def read_meanwhile(talk: Talk, views: list[View]) -> None:
        talk.messages()
        frames = talk.mailbox.take(0)
        written: list[bytes] = []
        monkeypatch.setattr(talk, "_send", written.append)
        talk.write(frames)
        world.client.setblocking(False)
        data = b""
        try:
            while more := world.client.recv(65_536):
                data += more
        except BlockingIOError:
            pass
        whole = data + b"".join(written)
        assert [int(part.split(b'"')[0]) for part in whole.split(b'"id":"')[1:]] == list(range(1, 36))
        assert whole.count(b"\x81\x7e") == 35
        assert talk.rest(views)

    world.does = read_meanwhile
    world.run()


def test_a_pending_change_keeps_its_place(world: World) -> None:
    event: ChangeEvent = make_event("t", "insert").replace(id="77", row_json="{}", cursor="ab~9:9:")
    pending = Pending(Sight(event, world.hub.counts), VIEW, Persona("web"))
    world.publish()
    world.line.client.channel.put(pending)
    world.publish()
    told: list[bool] = []

    def wait_for_it(talk: Talk, views: list[View]) -> None:
        talk.messages()
        talk.write(talk.mailbox.take(0))
        told.append(talk.rest(views))
        pending.judge(before=False, now=True)
        world.stay_silent(talk, views)

    world.does = wait_for_it
    world.say(PING)
    world.run()
    assert told == [False], "nobody can leave a connection while something is pending"
    assert world.received() == [1, 77, 2]


def test_it_sees_something_else_afterwards(world: World) -> None:
    def subscribe(talk: Talk, views: list[View]) -> None:
        assert views == [VIEW]
        assert world.hub.subscribe(talk.mailbox, [OTHER], 0)
        world.stay_silent(talk, [VIEW, OTHER])

    world.does = subscribe
    world.say(PING)
    world.run()
    world.publish()
    world.work()
    assert world.received() == [1, 1]

    def unsubscribe(talk: Talk, views: list[View]) -> None:
        assert set(views) == {VIEW, OTHER}
        world.hub.unsubscribe(talk.mailbox, [VIEW])
        world.stay_silent(talk, [OTHER])

    world.does = unsubscribe
    world.say(PING)
    world.run()
    world.publish()
    world.work()
    assert world.received() == [2]


def test_who_leaves_a_channel_in_the_middle_of_a_turn_is_none_of_its_business(world: World) -> None:
    """In the other channel the frames have other numbers."""
    others = [world.connect()[1] for _ in range(SLICE)]
    line, last = world.connect()
    ends, got = [world.client, *others, last], {}
    for _ in range(50):
        world.publish()
    for world.client in ends:
        got[world.client] = world.received()
    world.publish()
    crowd = world.broadcaster._start()
    assert world.broadcaster._work(crowd)

    def subscribe(talk: Talk, views: list[View]) -> None:
        assert world.hub.subscribe(talk.mailbox, [OTHER], 0)
        world.stay_silent(talk, [VIEW, OTHER])

    world.does = subscribe
    line.hear(PING)
    world.run()
    assert line.client.position < 5
    while world.broadcaster._work(crowd):
        assert 0 <= world.broadcaster.owed < 1000
    world.publish()
    world.work()
    for world.client in ends:
        got[world.client] += world.received()
    assert [got[client] for client in ends[:-1]] == [list(range(1, 53))] * (len(ends) - 1)
    assert got[last] == [*range(1, 53), 52]


def test_what_is_said_while_a_talk_ends_is_another_talk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    come_back = world.broadcaster.come_back

    def meanwhile(*arguments: Any) -> bool:
        world.line.hear(client_frame(0x81, b"more") + client_frame(0x89, b"!"))
        return come_back(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(world.broadcaster, "come_back", meanwhile)
        world.say(PING)
        world.tasks.pop(0)()
    assert len(world.tasks) == 1
    heard: list[Any] = []

    def hear(talk: Talk, views: list[View]) -> None:
        heard.append(talk.messages())
        world.stay_silent(talk, views)

    world.does = hear
    world.run()
    assert heard == [["more"]]
    assert world.client.recv(100).endswith(b"\x8a\x01!")


def test_who_is_lost_while_a_talk_goes_on_has_its_socket_and_place_until_that_is_over(world: World) -> None:
    def leave(talk: Talk, views: list[View]) -> None:
        world.broadcaster.drop(world.line.client)
        assert talk.gone
        assert world.line.client.socket.fileno() >= 0, "its number could be another connection's by now"
        assert world.occupied == 1
        assert not talk.rest(views)
        with pytest.raises(OSError, match="gone"):
            talk.write([b"x"])
        talk.close(1001)

    world.does = leave
    world.say(PING)
    world.run()
    assert world.line.client.socket.fileno() < 0
    assert (world.occupied, world.hub.connections, len(world.broadcaster._channels)) == (0, 0, 0)


@pytest.mark.parametrize("error", [TimeoutError("took nothing"), ZeroDivisionError()])
def test_a_talk_that_fails_ends_the_connection(world: World, error: Exception) -> None:
    def fail(talk: Talk, views: list[View]) -> None:
        raise error

    world.does = fail
    world.say(PING)
    world.run()
    world.client.shutdown(socket.SHUT_WR)
    world.work()
    assert world.client.recv(100)[2:4] == (b"" if isinstance(error, OSError) else (1011).to_bytes(2, "big"))
    assert (world.occupied, world.hub.connections) == (0, 0)


@pytest.mark.parametrize("talking", [False, True])
def test_an_end_is_told_in_silence_and_in_a_talk(world: World, talking: bool) -> None:
    reasons: list[Any] = []

    def close(talk: Talk, views: list[View]) -> None:
        reasons.append(talk.mailbox.closed)
        talk.close(4403)

    world.does = close
    if talking:
        world.say(PING)
    world.places.end("ann", "revoked")
    world.run()
    world.work()
    assert reasons == (["revoked"] if talking else [])
    assert world.client.recv(100)[2:4] == (4403).to_bytes(2, "big")


def test_who_does_not_answer_our_close_is_waited_for_but_not_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowds, "LINGER_SECONDS", 0.2)
    world.places.end("ann", "shutdown")
    world.work()
    assert world.client.recv(100)[2:4] == (1012).to_bytes(2, "big")
    assert world.client.recv(100) == b""
    assert world.occupied == 1
    waiting.sleep(0.25)
    world.work()
    assert world.occupied == 0


def test_a_bug_in_what_hears_costs_one_connection(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    world.line.client.ear = type("Bad", (), {"hear": staticmethod(fail), "lose": world.line.lose})()
    world.say(PING)
    assert world.client.recv(100) == b""
    assert "ZeroDivisionError" in caplog.text
    assert (world.occupied, len(world.broadcaster._start())) == (0, 0)


def test_nothing_of_who_left_waits_for_the_garbage_collector(world: World) -> None:
    gc.collect()
    gc.disable()
    before = _alive()
    try:
        world.say(PING)
        world.run()
        world.client.close()
        world.work()
        del world.line
        assert world.occupied == 0
        assert before - _alive() == Counter(("Line", "Client", "Visit"))
        assert not _alive() - before
    finally:
        gc.enable()


def _alive() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, Line | Client | Talk | Visit))
