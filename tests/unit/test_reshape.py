"""Columns that change under a stream: whoever shows or compares them is sent away before the next change."""

from __future__ import annotations

from typing import Any

import pytest

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import Shape, TableName
from pgevents_push.hub import Definition, Hub, Page, Subscription, View
from pgevents_push.transports import resume
from tests.fixtures.views import COLUMNS, ORDERS, inserted, seen, view

SHAPE = dict.fromkeys(COLUMNS, "700")
RETYPED = {**SHAPE, "owner_id": "900"}
MINE = {"id": 1, "owner_id": 7, "status": "a", "total": 1, "secret": ""}


def marked(text: str, *names: str, shape: Shape = SHAPE) -> View:
    definition = Definition(COLUMNS, shape, Snapshot(800, 800), 1000)
    return view(text, columns=" ".join(names), mark=definition.mark(names or None))


class World:
    def __init__(self) -> None:
        self.told: list[tuple[TableName, Shape]] = []
        self.hub = Hub(1_000_000, lambda table, shape: self.told.append((table, shape)))
        self.hub.publish([], "abcd~800:800:")

    def join(self, look: View) -> Subscription:
        mailbox = self.hub.connect(10**6)
        self.hub.subscribe(mailbox, [look], 0)
        return mailbox

    def change(self, shape: Shape) -> None:
        self.hub.publish([inserted(MINE)], "abcd~801:801:", {ORDERS: shape})


def got(mailbox: Subscription) -> list[Any]:
    return [frame["type"] for frame in map(seen, mailbox.take(0))]


def test_who_shows_or_compares_a_changed_column_gets_nothing_of_the_change() -> None:
    world = World()
    comparing, showing, other = (
        world.join(marked("owner_id=eq.7", "id", "owner_id")),
        world.join(marked("", "owner_id")),
        world.join(marked("", "id")),
    )
    world.change(SHAPE)
    world.change(RETYPED)
    assert (comparing.closed, got(comparing)) == ("schema", ["insert"])
    assert (showing.closed, got(showing)) == ("schema", ["insert"])
    assert (other.closed, got(other)) == (None, ["insert", "insert"])


def test_a_column_that_is_added_concerns_nobody() -> None:
    world = World()
    mailbox = world.join(marked("owner_id=eq.7"))
    world.change({**SHAPE, "more": "900"})
    assert (mailbox.closed, got(mailbox)) == (None, ["insert"])


def test_a_table_that_has_another_name_by_now_is_another_table() -> None:
    world = World()
    mailbox = world.join(marked("owner_id=eq.7"))
    world.change({})
    assert (mailbox.closed, got(mailbox)) == ("schema", [])


def test_a_view_of_a_table_that_was_not_there_is_not_bound() -> None:
    world = World()
    mailbox = world.join(view())
    world.change(SHAPE)
    world.change(RETYPED)
    assert (mailbox.closed, got(mailbox)) == (None, ["insert", "insert"])


def test_the_change_is_told_once_to_who_knows_the_columns() -> None:
    world = World()
    for shape in (SHAPE, SHAPE, RETYPED, RETYPED):
        world.change(shape)
    assert world.told == [(ORDERS, SHAPE), (ORDERS, RETYPED)]


def test_who_comes_with_columns_of_before_is_sent_away_and_can_come_again() -> None:
    world = World()
    world.change(RETYPED)
    stale = world.hub.connect(1000)
    assert world.hub.subscribe(stale, [view(), marked("owner_id=eq.7")], 0) is None
    assert stale.closed == "schema"
    assert world.told[-1] == (ORDERS, {}), "whoever knows the columns asks anew"
    world.hub.disconnect(stale)
    assert not world.hub._audiences, "nothing was added"
    assert world.join(marked("owner_id=eq.7", shape=RETYPED)).closed is None


def test_who_knows_newer_columns_than_the_last_change_had_is_let_in_the_second_time() -> None:
    """Nothing was written since the ALTER TABLE: it must not be sent away for ever."""
    world = World()
    world.change(SHAPE)
    assert world.join(marked("owner_id=eq.7", shape=RETYPED)).closed == "schema"
    mailbox = world.join(marked("owner_id=eq.7", shape=RETYPED))
    world.change(RETYPED)
    assert (mailbox.closed, got(mailbox)) == (None, ["insert"])


def test_what_a_page_of_the_log_says_is_heard_by_all() -> None:
    world = World()
    mailbox = world.join(marked("owner_id=eq.7"))
    page = Page((inserted(MINE),), Cursor.parse("abcd~900:900:"), {ORDERS: RETYPED})
    assert not resume.fits(page, [marked("owner_id=eq.7")])
    assert resume.fits(page, [marked("", "id"), view()])
    world.hub.reshape(page.shapes)
    assert mailbox.closed == "schema"


# --- A client that comes back

DEFINED_AT_700 = marked("owner_id=eq.7")
ALTERED = Definition(COLUMNS, RETYPED, Snapshot(950, 950), 1000).mark(None)


@pytest.mark.parametrize(
    ("since", "position", "mark", "reason"),
    [
        ("abcd~850:850:", "abcd~990:990:", DEFINED_AT_700.mark, None),
        ("abcd~850:850:", "abcd~990:990:", ALTERED, "schema"),
        ("abcd~901:901:", "abcd~990:990:", ALTERED, None),
        ("abcd~900:905:0", "abcd~990:990:", ALTERED, "schema"),  # 900 was still open there
        ("abcd~890:890:~910:910:~5", "abcd~990:990:", ALTERED, "schema"),
        ("abcd~850:850:", "abcd~850:850:", ALTERED, None),  # nothing was written since
        ("abcd~850:850:", "abcd~990:990:", None, None),
    ],
)
def test_a_row_of_before_is_not_judged_by_the_types_of_today(
    since: str, position: str, mark: Any, reason: str | None
) -> None:
    look = view("owner_id=eq.7", mark=mark)
    assert resume.gap_reason(since, Cursor.parse(since), Cursor.parse(position), [view(), look]) == reason
