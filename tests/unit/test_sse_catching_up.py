"""A stream that ends while it catches up: nothing may come that lies behind what was not sent yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest

from pgevents_push.config import Config
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import BacklogError, ConnectionLost, Crowded, CursorError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, Gap, TableName
from pgevents_push.hub import Hub, Page, Recall, View
from pgevents_push.transports import resume
from pgevents_push.transports.places import Places
from pgevents_push.transports.sse import Stream
from pgevents_push.transports.sse_format import encode_json

EPOCH = "abcd"
VIEW = View(TableName("public", "orders"), frozenset(CHANGE_TYPES), None, None, encode_json)


SINCE = Cursor.parse("abcd~10:10:")


def at(xid: int) -> str:
    return f"{EPOCH}~{xid}:{xid}:"


def order(xid: int) -> ChangeEvent:
    return ChangeEvent(
        id=str(xid), type="insert", schema="public", table="orders", tx=str(xid), last=True,
        at_text="2026-01-01T00:00:00+00:00", cursor=at(xid + 1), pk_json=f'{{"id": {xid}}}', row_json="{}",
    )  # fmt: skip


def resumed(hub: Hub, end: Callable[[], None]) -> bytes:
    """What a client from 10 gets of the orders 10 to 12, when the end comes behind the page with the first."""
    hub.publish([], at(13))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        xid = since.snapshot.xmin
        if xid == 10:
            hub.publish([order(13)], at(14))  # waits in the mailbox
            end()
        yield Page((order(xid),), Cursor.parse(at(xid + 1)))

    stream = Stream(hub, [VIEW], Config(), None, recall, at(10), Places(Config()).take("sse", None))
    text = b"".join(stream)
    stream.close()
    return text


@pytest.mark.parametrize("reason", ["shutdown", "lost", "overflow"])
def test_the_end_during_catch_up_does_not_skip_what_is_missing(reason: str) -> None:
    hub = Hub()

    def end() -> None:
        for mailbox in list(hub._views):
            mailbox.close(reason)  # type: ignore[arg-type]

    text = resumed(hub, end)
    assert f"id: {at(11)}".encode() in text
    assert f"id: {at(14)}".encode() not in text, "the client would go on behind the orders 11 and 12"
    assert b"event: bye" in text


def test_a_caught_up_stream_says_all_that_waits_before_its_end() -> None:
    hub = Hub()
    hub.publish([], at(11))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        hub.publish([order(11)], at(12))
        hub.close("shutdown")
        yield Page((order(10),), Cursor.parse(at(11)))

    text = b"".join(Stream(hub, [VIEW], Config(), None, recall, at(10), Places(Config()).take("sse", None)))
    assert text.index(f"id: {at(11)}\n".encode()) < text.index(f"id: {at(12)}\n".encode()) < text.index(b"event: bye")


def catching_up(recall: Recall, until: bytes) -> bytes:
    """What a client from 10 gets while it catches up to 13, until this has come; then it leaves."""
    hub = Hub()
    hub.publish([], at(13))
    stream = Stream(hub, [VIEW], Config(), None, recall, at(10), Places(Config()).take("sse", None))
    text = b""
    for chunk in stream:
        text += chunk
        if until in text:
            break
    stream.close()
    return text


def test_pages_that_show_nothing_move_the_client_on() -> None:
    """Else a long absence, with changes of other tables only, were silence: whoever or whatever gives up then, a proxy
    or the client itself, begins where it began, and again, for ever."""

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        yield Page((), Cursor.parse(at(since.snapshot.xmin + 1)))

    text = catching_up(recall, f"id: {at(12)}\nevent: sync".encode())
    assert f"id: {at(11)}\nevent: sync".encode() in text


@pytest.mark.parametrize("error", [Crowded, ConnectionLost])
def test_who_has_to_wait_hears_that_all_is_well(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """A `sync`, since an EventSource shows nobody a comment. It says no other position."""
    monkeypatch.setattr(resume, "RETRY_SECONDS", 0.0)
    attempts: list[Cursor] = []

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        attempts.append(since)
        if len(attempts) < 3:
            raise error
        yield Page((order(10),), Cursor.parse(at(13)))

    text = catching_up(recall, b"event: insert").decode()
    assert text.count(f"id: {at(10)}\nevent: sync") == 2


def test_a_position_of_the_future_is_answered_however_seldom_the_log_is_read() -> None:
    """The client's patience with the hub is counted from when it came, not anew with each heartbeat."""
    hub = Hub()
    hub.publish([], at(13))
    settings = Config(heartbeat_seconds=0.05)
    stream = Stream(
        hub, [VIEW], settings, None, lambda *_: nullcontext(Page((), SINCE)), at(99), Places(settings).take("sse", None)
    )
    texts = []
    for chunk in stream:
        texts.append(chunk)
        if b"ready" in chunk or len(texts) > 10:
            break
        hub.publish([], at(13 + len(texts)))  # less often than the heartbeat
    stream.close()
    assert b'event: gap\ndata: {"reason":"cursor"}' in b"".join(texts)


@pytest.mark.parametrize(("error", "reason"), [(CursorError(), "retention"), (BacklogError(), "overflow")])
def test_what_cannot_be_read_is_a_gap_that_says_why(error: CursorError, reason: str) -> None:
    hub = Hub()
    hub.publish([], at(13))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        hub.close("shutdown")
        raise error
        yield Page((), since)

    stream = Stream(hub, [VIEW], Config(), None, recall, at(10), Places(Config()).take("sse", None))
    text = b"".join(stream).decode()
    stream.close()
    assert f'event: gap\ndata: {{"reason":"{reason}"}}' in text
    assert f"id: {at(13)}\nevent: gap" in text


def test_a_change_that_cannot_be_encoded_is_a_gap_and_not_the_end_of_the_world() -> None:
    """Live it costs a reconnect; who came back to it would come back for ever."""

    def encode(event: ChangeEvent | Gap, view: View) -> bytes | None:
        if isinstance(event, ChangeEvent) and event.id == "11":
            raise KeyError("a bug")
        return encode_json(event, view)

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        yield Page((order(10), order(11), order(12)), Cursor(since.epoch, until))

    view = View(VIEW.table, VIEW.types, None, None, encode)
    frames, reached = resume.read_on(recall, SINCE, Snapshot(13, 13), [view], Hub())
    assert [b"gap" in frame for frame in frames] == [False, True, False]
    assert f'id: {at(12)}\nevent: gap\ndata: {{"reason":"failed"}}'.encode() in frames[1]
    assert str(reached) == at(13)
