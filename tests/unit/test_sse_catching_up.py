"""A stream that ends while it catches up: nothing may come that lies behind what was not sent yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgevents_push.config import Config
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import Hub, Page, View
from pgevents_push.transports.sse import Stream
from pgevents_push.transports.sse_format import encode_json

EPOCH = "abcd"
VIEW = View(TableName("public", "orders"), frozenset(CHANGE_TYPES), None, None, encode_json)


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

    def recall(since: Cursor, until: Snapshot) -> Page:
        xid = since.snapshot.xmin
        if xid == 10:
            hub.publish([order(13)], at(14))  # waits in the mailbox
            end()
        return Page((order(xid),), Cursor.parse(at(xid + 1)))

    stream = Stream(hub, [VIEW], Config(), None, recall, at(10))
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

    def recall(since: Cursor, until: Snapshot) -> Page:
        hub.publish([order(11)], at(12))
        hub.close("shutdown")
        return Page((order(10),), Cursor.parse(at(11)))

    text = b"".join(Stream(hub, [VIEW], Config(), None, recall, at(10)))
    assert text.index(f"id: {at(11)}\n".encode()) < text.index(f"id: {at(12)}\n".encode()) < text.index(b"event: bye")
