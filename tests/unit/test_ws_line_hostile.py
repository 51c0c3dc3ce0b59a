"""Clients that speak at the worst moment, driven by hand."""

from __future__ import annotations

import gevent
import pytest

from pgevents_push import waiting
from pgevents_push.hub import Pending, Persona, View
from pgevents_push.hub.sight import Sight
from pgevents_push.testing import make_event
from pgevents_push.transports.ws_line import Talk
from pgevents_push.transports.ws_protocol import close_frame
from tests.fixtures.ws_client import client_frame
from tests.unit.test_ws_line import PING, VIEW, World, world

__all__ = ["world"]


def fill(world: World) -> None:
    """Until the client has not taken all."""
    while world.line.client.rest is None:
        world.publish(5000)
        world.work()


def take(world: World) -> bytes:
    """What the client can read now."""
    world.client.setblocking(False)
    try:
        return world.client.recv(1_000_000)
    except BlockingIOError:
        return b""


def test_who_takes_what_waited_and_speaks_before_we_look_goes_on(world: World) -> None:
    """In one slice the broadcaster writes the rest, hears the client, and then looks who has got its last words."""
    fill(world)
    taken = world.client.recv(1_000_000)
    world.client.sendall(PING)
    world.work()
    world.run()
    world.publish()
    world.work()
    taken += world.client.recv(1_000_000)
    assert taken.count(b'"id":') == world.number
    assert (world.occupied, world.line.client.closed) == (1, None)


def pend(world: World) -> Pending:
    event = make_event("t", "insert").replace(id="77", row_json="{}", cursor="ab~9:9:")
    pending = Pending(Sight(event, world.hub.counts), VIEW, Persona("web"))
    world.line.client.channel.put(pending)
    return pending


def test_who_comes_behind_something_pending_and_is_left_alone_there(world: World) -> None:
    first, second = pend(world), pend(world)
    _, last = world.connect()
    world.broadcaster.drop(world.line.client)
    first.judge(before=False, now=True)
    world.work()
    second.judge(before=False, now=True)
    world.work()
    world.client = last
    world.publish()
    world.work()
    assert world.received() == [1]


def flood(world: World, kind: int, number: int) -> None:
    """As slowly as is allowed."""
    for _ in range(number):
        world.line._ears = None
        world.line.hear(client_frame(kind, b"x" * 125))


def test_who_takes_nothing_is_not_owed_pongs_without_end(world: World) -> None:
    fill(world)
    flood(world, 0x89, 3000)
    assert world.line.client.closed == "overflow"
    assert world.line.client.rest is not None
    assert len(world.line.client.rest) < 300_000
    taken = b""
    while more := world.client.recv(1_000_000):
        taken += more
        world.work()
    assert taken.endswith(close_frame(4408, "slow"))


def test_who_takes_all_may_ping_for_ever(world: World) -> None:
    for _ in range(300):
        flood(world, 0x89, 10)
        assert len(world.client.recv(10_000)) == 1270
    assert world.line.client.closed is None


@pytest.mark.parametrize("kind", [0x81, 0x89])
def test_what_is_said_while_the_greenlet_is_busy_is_bounded(world: World, kind: int) -> None:
    def be_busy(talk: Talk, views: list[View]) -> None:
        flood(world, kind, 20_000)
        assert talk.gone
        assert sum(map(len, [*talk._messages, *talk._first])) < 1_100_000
        take(world)
        talk._first.clear()
        talk.close(1001)

    world.does = be_busy
    world.say(PING)
    world.run()
    assert take(world).endswith(b"too many messages")


def test_a_ping_is_answered_while_the_greenlet_is_busy(world: World) -> None:
    def be_busy(talk: Talk, views: list[View]) -> None:
        world.line.hear(client_frame(0x89, b"?"))
        assert take(world) == b"\x8a\x01?"
        world.stay_silent(talk, views)

    world.does = be_busy
    world.say(PING)
    world.run()


def test_a_pong_comes_behind_half_a_frame_and_not_amid_a_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(world)
    ping = client_frame(0x89, b"?")
    ids: list[bytes] = []

    def write(talk: Talk, views: list[View]) -> None:
        ids.append(take(world))
        world.line.hear(ping)
        send_all = waiting.send_all

        def send(sock: object, data: bytes, timeout: float) -> None:
            ids.append(take(world))
            send_all(sock, data[:1000], timeout)
            world.line.hear(ping)
            ids.append(take(world))
            send_all(sock, data[1000:], timeout)

        monkeypatch.setattr(waiting, "send_all", send)
        world.publish(3000)
        talk.messages()
        talk.write(talk.mailbox.take(0))
        monkeypatch.undo()
        assert talk.rest(views)

    world.does = write
    world.say(PING)
    world.tasks.pop(0)()
    for failure in world.failures:
        raise failure
    ids.append(take(world))
    data, seen = b"".join(ids), []
    while data:
        size, at = (data[1], 2) if data[1] < 126 else (int.from_bytes(data[2:4], "big"), 4)
        seen.append(data[0])
        data = data[at + size :]
    assert seen == [0x81] * (world.number - 1) + [0x8A, 0x81, 0x8A]


def test_a_talk_that_is_killed_ends_the_connection(world: World) -> None:
    def fail(talk: Talk, views: list[View]) -> None:
        raise gevent.Timeout

    world.does = fail
    world.say(PING)
    with pytest.raises(gevent.Timeout):
        world.run()
    assert take(world) == b""
    assert (world.occupied, world.hub.connections) == (0, 0)


@pytest.mark.parametrize("busy", [False, True])
def test_who_floods_on_is_not_read_for_ever(world: World, busy: bool) -> None:
    def flood_on(*talk: object) -> None:
        for _ in range(1000):
            world.line.hear(bytes(4096))
        told.append(world.line.client.closed)

    told: list[object] = []
    if busy:
        world.does = flood_on
        world.say(PING)
        world.line.hear(client_frame(0x88, b""))
        world.run()
    else:
        fill(world)
        world.line.client.close("overflow")
        flood_on()
    assert told == ["departed" if busy else "overflow"]
    assert (world.occupied, world.hub.connections, len(world.broadcaster._start())) == (0, 0, 0)
