"""One connection's loop, with a connection and a clock made by hand: order, heartbeat, ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from pgevents_push.config import Config
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent, TableName
from pgevents_push.hub import Hub, Page, Subscription
from pgevents_push.transports.gate import Opened
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.ws import Conversation
from pgevents_push.transports.ws_protocol import CloseCode
from pgevents_push.transports.ws_socket import SafeWebSocket


class FakeConnection:
    """Plays a script: at each turn of the loop one step, which may send messages or do anything else."""

    def __init__(self, *steps: Callable[[FakeConnection], object]) -> None:
        self.steps = list(steps)
        self.inbox: list[str | bytes] = []
        self.out: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.gone = self.flooded = False
        self.poke: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> None:
        self.poke = wake

    def messages(self) -> list[str | bytes]:
        if self.steps:
            self.steps.pop(0)(self)
        else:
            self.gone = True
        self.poke()
        messages, self.inbox = self.inbox, []
        return messages

    def write(self, frames: list[bytes]) -> None:
        for frame in frames:
            while frame:  # a greeting may be two frames
                size, at = (frame[1], 2) if frame[1] < 126 else (int.from_bytes(frame[2:4], "big"), 4)
                self.out.append(json.loads(frame[at : at + size]) if frame[0] == 0x81 else {"type": f"{frame[0]:#x}"})
                frame = frame[at + size :]

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def kinds(self) -> list[str]:
        return [f"{message['type']} {message['ref']}" if "ref" in message else message["type"] for message in self.out]


def says(**message: object) -> Callable[[FakeConnection], object]:
    return lambda connection: connection.inbox.append(json.dumps(message))


def subscribes(ref: str, **fields: object) -> Callable[[FakeConnection], object]:
    return says(**{"type": "subscribe", "ref": ref, "table": "t", **fields})


def position(n: int) -> str:
    return f"abcd~{n + 1}:{n + 1}:"


def nothing_missed(since: Cursor, until: Snapshot) -> Page:
    return Page((), Cursor(since.epoch, until))


class World:
    def __init__(self, live: bool = True, **settings: Any) -> None:
        self.hub, self.now = Hub(), 0.0
        self.settings = Config(**settings)
        self.mailbox = self.hub.connect(self.settings.max_queue_bytes)
        self.asked: list[TableRequest] = []
        self.n = 0
        if live:
            self.hub.publish([], position(0))

    def change(self, connection: object = None) -> object:
        """One more change; a step of a script too."""
        self.n += 1
        event = ChangeEvent(
            id=str(self.n), type="insert", schema="public", table="t", tx="1", last=True, at_text="", row_json="{}",
            cursor=position(self.n),
        )  # fmt: skip
        self.hub.publish([event], event.cursor)
        return event

    def ask(self, table: TableRequest) -> Opened:
        self.asked.append(table)
        self.change()  # authorize takes time: the world goes on
        return Opened(TableName("public", table.table), table.types, None, None)

    def run(self, *steps: Callable[[FakeConnection], object], ask: Any = None) -> FakeConnection:
        connection = FakeConnection(*steps)
        conversation = Conversation(
            cast(SafeWebSocket, connection),
            self.mailbox,
            self.hub,
            nothing_missed,
            ask or self.ask,
            self.settings,
            lambda: self.now,
        )
        conversation.run()
        return connection

    def sleep(self, seconds: float) -> Callable[[FakeConnection], object]:
        def step(connection: FakeConnection) -> None:
            self.now += seconds

        return step


def test_a_ready_stands_behind_older_changes_and_before_newer_ones() -> None:
    """Its cursor then never runs ahead of what this connection has received."""
    world = World()
    connection = world.run(subscribes("a"), subscribes("b"), world.change)
    assert connection.kinds() == ["ready a", "insert a", "ready b", "insert a", "insert b"]
    assert [message["cursor"] for message in connection.out] == [position(n) for n in (1, 2, 2, 3, 3)]


def test_the_pong_stands_behind_what_was_queued_before() -> None:
    world = World()
    connection = world.run(
        subscribes("a"), lambda c: (world.change(), says(type="ping")(c), says(type="unsubscribe", ref="a")(c))
    )
    assert connection.kinds() == ["ready a", "insert a", "pong"]
    assert not world.hub._groups


@pytest.mark.parametrize(("silence", "sync"), [(14.9, []), (15.1, ["sync"])])
def test_a_sync_after_fifteen_seconds_of_silence(silence: float, sync: list[str]) -> None:
    world = World()
    connection = world.run(subscribes("a"), world.sleep(silence))
    assert connection.kinds() == ["ready a", *sync]


def test_a_sent_frame_puts_the_heartbeat_off() -> None:
    world = World()
    connection = world.run(subscribes("a"), world.sleep(10), world.change, world.sleep(10), world.sleep(6))
    assert connection.kinds() == ["ready a", "insert a", "sync"]


def test_without_a_position_a_subscription_waits_and_no_cursor_is_told() -> None:
    world = World(live=False)
    world.ask = lambda table: Opened(TableName("public", "t"), table.types, None, None)  # type: ignore[method-assign]
    connection = world.run(
        subscribes("a"), world.sleep(16), says(type="ping"), lambda c: world.hub.publish([], position(5)), world.change
    )
    assert connection.kinds() == ["0x89", "pong", "ready a", "insert a"]


def test_a_table_that_is_not_captured_yet_holds_up_no_other() -> None:
    world = World()
    world.hub.capture(frozenset({TableName("public", "t")}))
    everything = frozenset({TableName("public", "t"), TableName("public", "later")})
    connection = world.run(
        subscribes("a", table="later"),
        subscribes("b"),
        world.sleep(16),
        lambda c: world.hub.capture(everything),
    )
    assert connection.kinds() == ["ready b", "sync", "ready a"]


def test_no_cursor_is_told_while_one_that_comes_back_waits() -> None:
    """The client would take it for that subscription's own, and miss what came before."""
    world = World()
    world.hub.capture(frozenset({TableName("public", "t")}))
    connection = world.run(
        subscribes("a", table="later", since=position(0)), subscribes("b"), world.sleep(16), lambda c: None
    )
    assert connection.kinds() == ["ready b", "0x89"]


def test_what_the_client_says_during_its_last_page_is_heard_at_once() -> None:
    world = World(heartbeat_seconds=5.0)
    begun = time.monotonic()
    connection = world.run(subscribes("a", since=position(0)), says(type="ping"))
    assert connection.kinds() == ["ready a", "pong"]
    assert time.monotonic() - begun < 4


def test_a_waiting_subscription_counts_and_can_be_taken_back() -> None:
    world = World(live=False, max_subscriptions=1)
    world.ask = lambda table: Opened(TableName("public", "t"), table.types, None, None)  # type: ignore[method-assign]
    connection = world.run(
        subscribes("a"), subscribes("a"), subscribes("b"), says(type="unsubscribe", ref="a"), subscribes("b")
    )
    assert [(m["ref"], m["code"]) for m in connection.out] == [("a", 400), ("b", 429)]


def test_a_bug_in_a_command_costs_that_command_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken(table: TableRequest) -> Opened:
        raise ZeroDivisionError

    connection = World().run(subscribes("a"), says(type="ping"), ask=broken)
    assert connection.kinds() == ["error a", "pong"]
    assert connection.out[0]["code"] == 503
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("reason", "code"), [("shutdown", 1012), ("overflow", 4408), ("failed", 1011)])
def test_each_end_of_the_mailbox_has_its_close_code(reason: Any, code: int) -> None:
    world = World()
    connection = world.run(subscribes("a"), lambda c: world.mailbox.close(reason), lambda c: None)
    assert connection.closed is not None
    assert connection.closed[0] == code


def test_a_flood_is_closed_as_such() -> None:
    def flood(connection: FakeConnection) -> None:
        connection.gone = connection.flooded = True

    assert World().run(flood).closed == (CloseCode.POLICY, "too many messages")


def test_a_bad_message_ends_the_loop_and_what_came_after_it_is_not_obeyed() -> None:
    world = World()
    connection = world.run(lambda c: (says(type="x")(c), subscribes("a")(c)))
    assert connection.kinds() == ["error None"]
    assert connection.closed == (CloseCode.BAD_MESSAGE, "bad message")
    assert world.asked == []


def test_a_slow_client_is_counted_once() -> None:
    world = World(max_queue_bytes=1000)
    other: Subscription = world.mailbox
    world.run(subscribes("a"))
    for _ in range(50):
        world.change()
    assert other.closed == "overflow"
    assert world.hub.counts["overflows"] == 1
