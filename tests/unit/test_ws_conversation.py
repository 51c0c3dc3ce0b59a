"""One connection's loop, with a connection and a clock made by hand: order, heartbeat, ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import pytest

from pgevents_push.config import Config
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import ConnectionLost, Crowded, PGEventsError, RowsError, TooSlow
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import Chunk, Hub, Page, Pending, Persona, Recall, Shipment, Subscription, View
from pgevents_push.hub.sight import Sight
from pgevents_push.testing import make_event
from pgevents_push.transports.gate import Opened
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.uncaptured import WAIT_SECONDS
from pgevents_push.transports.ws import Conversation
from pgevents_push.transports.ws_protocol import CloseCode, encode_change
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

    def rest(self, views: Iterable[View]) -> bool:
        return False

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
        self.shipments: list[Shipment] = []
        self.limits: list[int | None] = []
        self.n = 0
        self.recall: Recall = lambda since, until: nullcontext(nothing_missed(since, until))
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

    def take(self, views: Sequence[View], limit: int | None, shipment: Shipment) -> None:
        self.shipments.append(shipment)
        self.limits.append(limit)

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
            self.recall,
            self.take,
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
    assert not world.hub._audiences


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


def test_a_table_that_is_not_captured_at_all_is_refused_and_holds_up_no_other() -> None:
    world = World()
    world.hub.capture(frozenset({TableName("public", "t")}))
    connection = world.run(
        subscribes("a", table="never"), world.sleep(WAIT_SECONDS - 1), subscribes("b"), world.sleep(1), world.change
    )
    assert [kind for kind in connection.kinds() if kind != "0x89"] == ["ready b", "error a", "insert b"]
    refused = next(message for message in connection.out if message["type"] == "error")
    assert (refused["code"], "public.never is not captured" in refused["message"]) == (503, True)


def test_patience_does_not_end_while_the_listener_has_no_position() -> None:
    world = World(live=False)
    world.hub.capture(frozenset())
    world.ask = lambda table: Opened(TableName("public", "t"), table.types, None, None)  # type: ignore[method-assign]
    connection = world.run(
        subscribes("a"), world.sleep(10 * WAIT_SECONDS), lambda c: world.hub.publish([], position(5))
    )
    assert "error a" not in connection.kinds()


def test_no_cursor_is_told_while_one_that_comes_back_waits() -> None:
    """The client would take it for that subscription's own, and miss what came before."""
    world = World()
    world.hub.capture(frozenset({TableName("public", "t")}))
    connection = world.run(
        subscribes("a", table="later", since=position(0)), subscribes("b"), world.sleep(16), lambda c: None
    )
    assert connection.kinds() == ["ready b", "0x89"]


def test_what_the_client_says_during_its_last_page_is_heard_at_once() -> None:
    world = World(heartbeat_seconds=60.0)
    begun = time.monotonic()
    connection = world.run(subscribes("a", since=position(0)), says(type="ping"))
    assert connection.kinds() == ["ready a", "pong"]
    assert time.monotonic() - begun < 30


def test_pages_that_show_nothing_move_that_subscription_on() -> None:
    world = World()
    world.recall = lambda since, until: nullcontext(Page((), Cursor.parse(position(since.snapshot.xmin))))
    for _ in range(4):
        world.change()
    connection = world.run(subscribes("a", since=position(1)), *[lambda c: None] * 5)
    assert connection.kinds() == ["ready a", *["sync a"] * 3]
    assert [message["cursor"] for message in connection.out] == [position(n) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("error", [Crowded, ConnectionLost])
def test_one_that_has_to_wait_hears_that_all_is_well_and_the_others_go_on(error: type[Exception]) -> None:
    world = World()

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        if world.now < 3:
            raise error
        yield nothing_missed(since, until)

    world.recall = recall
    connection = world.run(
        subscribes("a"), subscribes("b", since=position(0)), world.change, world.sleep(1), world.sleep(2), world.change
    )
    said = connection.kinds()
    assert said[:6] == ["ready a", "insert a", "ready b", "sync b", "insert a", "sync b"]
    assert said[-2:] == ["insert a", "insert b"]
    assert {m["cursor"] for m in connection.out if m["type"] == "sync"} == {position(0)}


def test_what_was_missed_comes_behind_its_ready_also_while_postgresql_judges_a_row() -> None:
    """A row that is judged keeps those behind it waiting in the common mailbox: the `ready` of another too."""
    world = World()
    view = View(TableName("public", "t"), frozenset(CHANGE_TYPES), None, None, encode_change, "other")
    undecided = Pending(Sight(cast(ChangeEvent, world.change()), world.hub.counts), view, Persona("web"))

    @contextmanager
    def missed(since: Cursor, until: Snapshot) -> Iterator[Page]:
        yield Page((make_event("t", "insert", row={"id": 1}),), Cursor(since.epoch, until))

    world.recall = missed
    world.mailbox.put(undecided)
    connection = world.run(
        subscribes("a", since=position(0)), world.sleep(1), lambda c: undecided.give_up("schema"), world.sleep(1)
    )
    assert connection.kinds() == ["gap other", "ready a", "insert a"]


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


ROWS = Chunk(TableName("public", "t"), ('{"pk":{},"row":{}}',), first=True, last=True)


def shown(world: World, n: int) -> Callable[[FakeConnection], object]:
    """A step: the rows of the position n are there."""

    def step(connection: FakeConnection) -> None:
        shipment = world.shipments[-1]
        shipment.begin(Cursor.parse(position(n)))
        assert shipment.put(ROWS, 0)
        shipment.finish()

    return step


def fails(world: World, error: PGEventsError) -> Callable[[FakeConnection], object]:
    return lambda connection: world.shipments[-1].fail(error)


def nothing(connection: FakeConnection) -> None:
    """A turn in which the client says nothing and the world stands still."""


def test_rows_then_ready_at_their_moment_then_what_came_since() -> None:
    """What is published while the rows are read comes out of the log, not out of the mailbox."""
    world = World()
    connection = world.run(
        subscribes("a", snapshot=True, limit=7), world.change, shown(world, 1), nothing, nothing, world.change
    )
    assert connection.kinds() == ["snapshot a", "ready a", "insert a"]
    assert [message["cursor"] for message in connection.out] == ["snapshot", position(1), position(3)]
    assert connection.out[1]["resumed"] is False
    assert world.limits == [7]


def test_who_can_go_on_is_not_shown_the_rows() -> None:
    world = World()
    connection = world.run(subscribes("a", snapshot=True, since=position(0)))
    assert connection.kinds() == ["ready a"]
    assert connection.out[0]["resumed"] is True
    assert world.shipments == []


@pytest.mark.parametrize("since", ["nonsense", "snapshot"])
def test_a_gap_is_told_before_the_rows_unless_nothing_was_complete(since: str) -> None:
    world = World()
    connection = world.run(subscribes("a", snapshot=True, since=since), shown(world, 1), nothing)
    assert connection.kinds() == [*(["gap a"] if since == "nonsense" else []), "snapshot a", "ready a"]


def test_no_cursor_is_told_while_one_is_shown_the_rows() -> None:
    """The client would take it for that subscription's own, and go on from there without its rows."""
    world = World()
    connection = world.run(subscribes("b"), subscribes("a", snapshot=True), world.sleep(16), nothing)
    assert [kind for kind in connection.kinds() if kind != "insert b"] == ["ready b", "0x89"]


def test_a_database_that_is_away_is_tried_again_before_the_first_row() -> None:
    world = World()
    lost = fails(world, ConnectionLost("at 10.0.0.7"))
    steps = [lost, world.sleep(1), lost, world.sleep(1), shown(world, 1), nothing, nothing]
    connection = world.run(subscribes("a", snapshot=True), *steps)
    assert connection.kinds() == ["snapshot a", "ready a"]
    assert len(world.shipments) == 3


@pytest.mark.parametrize(
    ("error", "words"), [(TooSlow(), "PGEVENTS_SNAPSHOT_SECONDS"), (RowsError("x", "GRANT"), "cannot be read")]
)
def test_rows_that_cannot_come_are_an_error_of_that_subscription(error: PGEventsError, words: str) -> None:
    world = World()
    connection = world.run(subscribes("a", snapshot=True), fails(world, error), subscribes("a"), nothing)
    assert connection.kinds() == ["error a", "ready a"]
    assert connection.out[0]["code"] == 503
    assert words in connection.out[0]["message"]
    assert "GRANT" not in connection.out[0]["message"]


def test_what_is_shown_counts_and_can_be_taken_back() -> None:
    world = World(max_subscriptions=1)
    connection = world.run(
        subscribes("a", snapshot=True), subscribes("b"), says(type="unsubscribe", ref="a"), subscribes("b"), nothing
    )
    assert connection.kinds() == ["error b", "ready b"]
    assert world.shipments[0].closed


def test_a_connection_that_ends_lets_go_of_the_rows() -> None:
    world = World()
    world.run(subscribes("a", snapshot=True), nothing)
    assert world.shipments[0].closed


def test_answers_to_pings_wait_for_no_subscription() -> None:
    turns: list[int] = []

    def write(connection: FakeConnection) -> object:
        connection.write = lambda frames: turns.append(len(list(frames)))  # type: ignore[method-assign]
        return None

    World(live=False).run(subscribes("1"), write, lambda connection: None)
    assert turns[0] == 0, "nothing of ours to be sent, but perhaps something of the connection's"
