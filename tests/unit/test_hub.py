"""The hub: from the cursor that `subscribe` returns every change arrives, none before it, each encoded once."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pgevents_push.cursor import Cursor
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, ChangeType, Gap, TableName
from pgevents_push.hub import Hub, Subscription, View
from pgevents_push.testing import make_event

ORDERS, OTHER = TableName("public", "orders"), TableName("public", "other")
MANY = 1_000_000


class Encoder:
    """Makes the event's id the frame, and counts."""

    def __init__(self, broken: bool = False) -> None:
        self.calls: list[str] = []
        self.broken = broken

    def __call__(self, event: ChangeEvent | Gap, view: View) -> bytes | None:
        assert isinstance(event, ChangeEvent)
        self.calls.append(event.id)
        if self.broken:
            raise ValueError("a bug")
        return None if event.type == "truncate" else f"{event.id};".encode()


def view(encode: Encoder, table: TableName = ORDERS, *types: ChangeType, columns: str = "", label: str = "") -> View:
    seen = frozenset(columns) if columns else None
    return View(table, frozenset(types or CHANGE_TYPES), seen, None, encode, label)


def change(number: int, type_: ChangeType = "insert", table: TableName = ORDERS) -> ChangeEvent:
    return make_event(table, type_).replace(id=str(number))


def hub_at(cursor: str | None = "c0") -> Hub:
    hub = Hub()
    hub.capture(None)
    if cursor:
        hub.publish([], cursor)
    return hub


def joined(hub: Hub, *views: View, max_bytes: int = MANY) -> Subscription:
    mailbox = hub.connect(max_bytes)
    assert hub.subscribe(mailbox, views, 0) is not None
    return mailbox


def ids(mailbox: Subscription) -> list[int]:
    return [int(i) for i in b"".join(mailbox.take(0)).decode().split(";") if i]


# --- Who gets what


def test_changes_arrive_in_order_at_those_who_asked_for_them() -> None:
    hub, encode = hub_at(), Encoder()
    inserts, all_, other = (joined(hub, v) for v in (view(encode, ORDERS, "insert"), view(encode), view(encode, OTHER)))
    hub.publish([change(1), change(2, "update"), change(3, table=OTHER), change(4)], "c4")
    assert (ids(inserts), ids(all_), ids(other)) == ([1, 4], [1, 2, 4], [3])


def test_one_mailbox_with_several_views_gets_them_interleaved() -> None:
    hub, encode = hub_at(), Encoder()
    both = joined(hub, view(encode), view(encode, OTHER))
    hub.publish([change(1), change(2, table=OTHER), change(3)], "c3")
    assert ids(both) == [1, 2, 3]


def test_equal_views_share_one_encoding_and_one_object() -> None:
    hub, encode = hub_at(), Encoder()
    mailboxes = [joined(hub, view(encode)) for _ in range(50)]
    narrow = joined(hub, view(encode, columns="a"))
    hub.publish([change(1)], "c1")
    frames = [mailbox.take(0)[0] for mailbox in mailboxes]
    assert encode.calls == ["1", "1"]  # one for the fifty, one for the narrow view
    assert all(frame is frames[0] for frame in frames)
    assert ids(narrow) == [1]


def test_a_view_that_nobody_has_costs_nothing() -> None:
    hub, encode = hub_at(), Encoder()
    mailbox = joined(hub, view(encode), view(encode, OTHER))
    hub.unsubscribe(mailbox, [view(encode, OTHER)])
    hub.publish([change(1, table=OTHER)], "c1")
    hub.disconnect(mailbox)
    hub.publish([change(2)], "c2")
    assert encode.calls == []
    assert hub.connections == 0


def test_what_encodes_to_nothing_is_not_delivered() -> None:
    hub = hub_at()
    mailbox = joined(hub, view(Encoder()))
    hub.publish([change(1, "truncate"), change(2)], "c2")
    assert ids(mailbox) == [2]


def test_views_with_labels_are_told_apart() -> None:
    hub, encode = hub_at(), Encoder()
    one = joined(hub, view(encode, label="1"), view(encode, label="2"))
    hub.publish([change(1)], "c1")
    assert ids(one) == [1, 1]
    hub.unsubscribe(one, [view(encode, label="1")])
    hub.publish([change(2)], "c2")
    assert ids(one) == [2]


# --- From where


def test_the_cursor_is_the_boundary() -> None:
    hub, encode = hub_at(), Encoder()
    hub.publish([change(1)], "c1")
    mailbox = hub.connect(MANY)
    assert hub.subscribe(mailbox, [view(encode)], 0) == "c1"
    hub.publish([change(2)], "c2")
    assert ids(mailbox) == [2]


def test_a_view_is_handed_over_with_what_waits() -> None:
    hub, encode = hub_at(), Encoder()
    own, common = hub.connect(MANY), joined(hub, view(encode, OTHER))
    assert hub.subscribe(own, [view(encode)], 0) == "c0"
    hub.publish([change(1)], "c1")
    hub.hand_over(view(encode), own, common)
    hub.publish([change(2)], "c2")
    assert ids(common) == [1, 2]
    hub.disconnect(common)
    assert not hub._audiences
    assert not hub._views


def test_a_closed_mailbox_hands_its_end_over() -> None:
    hub, encode = hub_at(), Encoder()
    own, common = hub.connect(10), joined(hub, view(encode, OTHER))
    assert hub.subscribe(own, [view(encode)], 0) == "c0"
    for n in range(1, 20):
        hub.publish([change(n)], f"c{n}")
    hub.hand_over(view(encode), own, common)
    assert common.closed == "overflow"


def test_without_a_position_nobody_is_let_in() -> None:
    hub = hub_at(None)
    mailbox = hub.connect(MANY)
    assert hub.subscribe(mailbox, [view(Encoder())], 0.01) is None
    hub.publish([change(1)], "c1")
    assert mailbox.take(0) == []


def test_a_table_that_is_not_captured_is_waited_for() -> None:
    hub, encode = Hub(), Encoder()
    hub.capture(frozenset())
    hub.publish([], "c0")
    mailbox = hub.connect(MANY)
    assert hub.subscribe(mailbox, [view(encode)], 0) is None
    hub.capture(frozenset({ORDERS}))
    assert hub.subscribe(mailbox, [view(encode), view(encode, OTHER)], 0) is None
    assert hub.subscribe(mailbox, [view(encode)], 0) == "c0"


def test_who_waits_for_a_position_is_woken_by_it() -> None:
    hub, found = hub_at(None), []
    mailbox = hub.connect(MANY)
    thread = threading.Thread(target=lambda: found.append(hub.subscribe(mailbox, [view(Encoder())], 10)))
    thread.start()
    hub.publish([change(1)], "c1")
    thread.join(30)
    assert found == ["c1"]
    assert mailbox.take(0) == []


def test_the_position_of_a_mailbox_is_told_when_it_is_empty() -> None:
    hub = hub_at()
    mailbox = joined(hub, view(Encoder()))
    assert hub.position(mailbox) == "c0"
    hub.publish([change(1)], "c1")
    assert hub.position(mailbox) is None
    mailbox.take(0)
    assert hub.position(mailbox) == "c1" == hub.cursor


def test_the_cursor_has_moved_when_the_lock_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else who subscribes in between gets a cursor whose next changes went out already."""
    hub, cursors = hub_at(), list[str | None]()
    real = hub._live

    class Watched:
        notify_all = real.notify_all

        def __enter__(self) -> None:
            real.acquire()

        def __exit__(self, *_: object) -> None:
            cursors.append(hub.cursor)
            real.release()

    monkeypatch.setattr(hub, "_live", Watched())
    hub.publish([change(1)], "c1")
    assert cursors == ["c1"]


# --- The end


def test_a_slow_client_is_closed_and_the_others_get_everything() -> None:
    hub, encode = hub_at(), Encoder()
    slow, quick = joined(hub, view(encode), max_bytes=5), joined(hub, view(encode))
    for number in range(1, 6):
        hub.publish([change(number)], f"c{number}")
    assert slow.closed == "overflow"
    assert ids(slow) == [1, 2]
    assert ids(quick) == [1, 2, 3, 4, 5]
    assert hub.counts["overflows"] == 1


def test_one_frame_always_fits() -> None:
    hub = hub_at()
    mailbox = joined(hub, view(Encoder()), max_bytes=1)
    hub.publish([change(12345)], "c1")
    assert mailbox.closed is None
    assert ids(mailbox) == [12345]
    assert mailbox.queued_bytes == 0


def test_a_bug_in_an_encoder_ends_those_streams_alone(caplog: pytest.LogCaptureFixture) -> None:
    hub = hub_at()
    broken, whole = joined(hub, view(Encoder(broken=True))), joined(hub, view(Encoder()))
    hub.publish([change(1)], "c1")
    assert (broken.closed, whole.closed, ids(whole)) == ("failed", None, [1])
    assert "event 1 could not be encoded" in caplog.text


def test_close_ends_all_streams_and_those_to_come() -> None:
    hub = hub_at()
    mailbox = joined(hub, view(Encoder()))
    hub.publish([change(1)], "c1")
    hub.close("shutdown")
    hub.close("overflow")
    late = hub.connect(MANY)
    assert mailbox.closed == late.closed == "shutdown"
    assert hub.subscribe(late, [view(Encoder())], 0) is None
    assert ids(mailbox) == [1]  # what was queued may still be taken
    hub.publish([change(2)], "c2")
    assert ids(mailbox) == []


def test_close_wakes_who_waits_for_a_position_and_who_waits_for_a_frame() -> None:
    hub = hub_at(None)
    waiting, taking = hub.connect(MANY), hub.connect(MANY)
    done: list[object] = []
    threads = [
        threading.Thread(target=lambda: done.append(hub.subscribe(waiting, [view(Encoder())], 30))),
        threading.Thread(target=lambda: done.append(taking.take(30))),
    ]
    for thread in threads:
        thread.start()
    hub.close("shutdown")
    for thread in threads:
        thread.join(30)
    assert sorted(map(repr, done)) == ["None", "[]"]


def test_lost_continuity_ends_the_streams_and_lets_new_ones_wait() -> None:
    hub = hub_at()
    mailbox = joined(hub, view(Encoder()))
    hub.lose()
    assert mailbox.closed == "lost"
    assert hub.subscribe(hub.connect(MANY), [view(Encoder())], 0) is None
    hub.publish([], "c9")
    assert joined(hub, view(Encoder())).closed is None


def test_leaving_twice_does_nothing() -> None:
    hub = hub_at()
    mailbox = joined(hub, view(Encoder()))
    for _ in range(2):
        hub.unsubscribe(mailbox, [view(Encoder()), view(Encoder(), OTHER)])
        hub.disconnect(mailbox)
    assert hub.subscribe(mailbox, [view(Encoder())], 0) is None


# --- The mailbox


def test_a_poke_wakes_without_a_frame() -> None:
    mailbox = Subscription(MANY)
    mailbox.poke()
    began = time.monotonic()
    assert mailbox.take(30) == []
    assert time.monotonic() - began < 5
    assert mailbox.take(0) == []


def test_several_frames_stop_at_the_first_that_does_not_fit() -> None:
    mailbox = Subscription(5)
    mailbox.put_all([b"12", b"34", b"56", b"7"])
    assert (mailbox.closed, mailbox.take(0)) == ("overflow", [b"12", b"34"])
    assert mailbox.put(b"8") == 0


def test_the_first_reason_stays() -> None:
    mailbox = Subscription(5)
    mailbox.close("departed")
    mailbox.close("shutdown")
    assert mailbox.closed == "departed"


# --- All at once


class Guests:
    """Threads that come and go, against the model: who came at cursor n and left after m got n + 1 … m, in order."""

    def __init__(self, hub: Hub, last: int) -> None:
        self.hub, self.last, self.encode = hub, last, Encoder()
        self.failures: list[str] = []

    def check(self, start: int, got: list[int]) -> None:
        if got != list(range(start + 1, start + 1 + len(got))):
            self.failures.append(f"from {start}: {got[:5]} … {got[-5:]}")

    def enter(self, columns: str = "") -> tuple[Subscription, int]:
        mailbox = self.hub.connect(MANY)
        start = self.hub.subscribe(mailbox, [view(self.encode, columns=columns)], 5)
        assert start is not None
        return mailbox, int(start)

    def come_and_go(self, seed: int) -> None:
        chance = random.Random(seed)
        while self.hub.cursor != str(self.last):
            mailbox, start = self.enter(chance.choice(["", "a", "b"]))
            got = [number for _ in range(chance.randint(1, 3)) for number in ids(mailbox)]
            self.hub.disconnect(mailbox)
            self.check(start, got + ids(mailbox))

    def stay(self) -> None:
        mailbox, start = self.enter()
        got: list[int] = []
        while got[-1:] != [self.last]:
            got += [int(i) for i in b"".join(mailbox.take(5)).decode().split(";") if i]
        self.check(start, got)
        if len(got) != self.last - start:
            self.failures.append(f"stayed from {start}, got {len(got)}")


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns a hundred times as often: a step outside of the lock shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_threads_that_come_and_go_get_exactly_what_lies_between() -> None:
    hub = hub_at("0")
    guests = Guests(hub, last=1500)
    threads = [threading.Thread(target=guests.come_and_go, args=(seed,)) for seed in range(4)]
    threads += [threading.Thread(target=guests.stay) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, guests.last + 1, 3):
        hub.publish([change(number + n) for n in range(3)], str(number + 2))
    for thread in threads:
        thread.join(20)
    assert guests.failures == []
    assert not any(thread.is_alive() for thread in threads)
    assert hub.connections == 3


def test_nobody_resumes_in_the_middle_of_a_batch() -> None:
    hub, encode = Hub(), Encoder()
    hub.publish([], "abcd~9:9:")
    mailbox = hub.connect(MANY)
    ahead = Cursor.parse("abcd~20:20:")
    for n in range(5):
        hub.publish([], f"abcd~{10 + n}:{10 + n}:")
    hub.publish([], "abcd~14:14:~30:30:~7")
    assert hub.looks == 6
    assert hub.subscribe(mailbox, [view(encode)], 0, since=ahead, enough=3) is None
    hub.publish([], "abcd~30:30:")
    assert hub.subscribe(mailbox, [view(encode)], 0, since=ahead, enough=3) == "abcd~30:30:"


def test_a_cursor_of_the_future_is_not_waited_for_for_ever() -> None:
    hub, encode = Hub(), Encoder()
    hub.publish([], "abcd~9:9:")
    mailbox = hub.connect(MANY)
    future, enough = Cursor.parse("abcd~99:99:"), hub.looks + 2
    assert hub.subscribe(mailbox, [view(encode)], 0, since=future, enough=enough) is None
    hub.publish([], "abcd~10:10:")
    hub.publish([], "abcd~11:11:")
    assert hub.subscribe(mailbox, [view(encode)], 0, since=future, enough=enough) == "abcd~11:11:"


def test_memory_that_begins_in_the_middle_of_a_batch_does_not_claim_its_beginning() -> None:
    """Continuity may be lost between two pieces of a large transaction: what comes is its second half."""
    hub, start = Hub(1_000_000), Cursor.parse("abcd~1:1:")
    hub.publish([], str(start))
    hub.publish([make_event("t", "insert", row={"id": 1})], "abcd~1:1:~9:9:~1")
    hub.lose()
    for number in (2, 3):
        hub.publish([make_event("t", "insert", row={"id": number})], f"abcd~1:1:~9:9:~{number}")
    hub.publish([make_event("t", "insert", row={"id": 4})], "abcd~9:9:")
    assert hub.remember(start, Cursor.parse("abcd~9:9:").snapshot, 10) is None


def test_publish_does_not_wait_while_history_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand clients that come back at once would hold everybody up."""
    hub = Hub(1_000_000)
    hub.publish([], "abcd~1:1:")
    searched = []

    def search(*_: object) -> list[ChangeEvent]:
        publishing = threading.Thread(target=hub.publish, args=([], "abcd~2:2:"))
        publishing.start()
        publishing.join(30)
        searched.append(publishing.is_alive())
        return []

    monkeypatch.setattr("pgevents_push.hub.hub.between", search)
    since = Cursor.parse("abcd~1:1:")
    assert hub.remember(since, since.snapshot, 10) == []
    assert searched == [False]
