"""A stream that begins with rows: what comes in which order, with which ids, and how it ends without them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import pytest

from pgevents_push.config import Config
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.errors import ConnectionLost, CursorError, PGEventsError, RowsError, TooSlow
from pgevents_push.hub import Chunk, Hub, Page, Recall, Shipment, View
from pgevents_push.transports.places import Places
from pgevents_push.transports.showing import Source
from pgevents_push.transports.sse import Stream
from tests.unit.test_sse_catching_up import VIEW, at, order

ROWS = Chunk(VIEW.table, ('{"pk":{},"row":{}}',), first=True, last=True)


class Rows:
    """What reads rows: each time they are of the next moment in the list, or fail."""

    def __init__(self, *moments: int | PGEventsError) -> None:
        self.moments = list(moments)
        self.made: list[Shipment] = []

    def take(self, views: Sequence[View], limit: int | None, shipment: Shipment) -> None:
        self.made.append(shipment)
        moment = self.moments.pop(0)
        if isinstance(moment, PGEventsError):
            return shipment.fail(moment)
        shipment.begin(Cursor.parse(at(moment)))
        shipment.put(ROWS, 0)
        return shipment.finish()


def stream(hub: Hub, rows: Rows, recall: Recall, named: str | None = None) -> list[str]:
    """What a client that wants the rows gets until the stream ends: names and ids."""
    config = Config(heartbeat_seconds=0.1)
    place = Places(config).take("sse", None)
    opened = Stream(hub, [VIEW], config, None, recall, named, place, Source(rows.take))
    text = b"".join(opened).decode()
    opened.close()
    assert all(shipment.closed for shipment in rows.made)
    blocks = [block for block in text.split("\n\n") if "event: " in block]
    return [" ".join(re.findall(r"^(?:event|id): (.*)", block, re.MULTILINE)[::-1]) for block in blocks]


def test_rows_then_ready_then_what_came_since() -> None:
    hub = Hub()
    hub.publish([], at(13))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        hub.publish([order(13)], at(14))
        hub.close("shutdown")
        yield Page((order(12),), Cursor.parse(at(13)))

    heard = stream(hub, Rows(12), recall)
    assert heard == ["snapshot snapshot", f"ready {at(12)}", f"insert {at(13)}", f"insert {at(14)}", "bye"]


def test_rows_again_when_what_was_missed_cannot_be_told() -> None:
    hub = Hub()
    hub.publish([], at(13))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        if since == Cursor.parse(at(10)):
            raise CursorError("gone")
        hub.close("shutdown")
        yield Page((), Cursor(since.epoch, until))

    heard = stream(hub, Rows(12), recall, at(10))
    assert heard == [f"ready {at(10)}", "gap snapshot", "snapshot snapshot", f"ready {at(12)}", "bye"]


def test_who_takes_the_rows_for_longer_than_the_log_keeps_changes_is_too_slow() -> None:
    """Not shown them again and again on the same stream."""
    hub = Hub()
    hub.publish([], at(13))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        raise CursorError("gone")
        yield Page((), since)

    assert stream(hub, Rows(12), recall) == ["snapshot snapshot", f"ready {at(12)}", "bye"]


@pytest.mark.parametrize("error", [TooSlow(), RowsError("x")])
def test_rows_that_cannot_come_end_the_stream(error: PGEventsError) -> None:
    hub = Hub()
    hub.publish([], at(13))
    assert stream(hub, Rows(error), lambda since, until: nullcontext(Page((), since)), "nonsense") == [
        "gap snapshot",
        "bye",
    ]


def test_a_gap_is_told_once_although_the_database_is_away_at_first() -> None:
    hub = Hub()
    hub.publish([], at(13))

    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        hub.close("shutdown")
        yield Page((), Cursor(since.epoch, until))

    heard = stream(hub, Rows(ConnectionLost("away"), 12), recall, "nonsense")
    assert heard == ["gap snapshot", "snapshot snapshot", f"ready {at(12)}", "bye"]
