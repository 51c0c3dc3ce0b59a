"""Pages: one reading of the log for all who are at its beginning and go as far or further; bounded, soon forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent
from pgevents_push.extension.pages import FEW, MOST_SECONDS, Pages
from pgevents_push.hub import Page, weight

SINCE, OTHER = Cursor.parse("abcd~10:10:"), Cursor.parse("abcd~11:11:")
UNTIL = Snapshot(90, 95, (90, 92))


def page(number: int = FEW) -> Page:
    change = ChangeEvent(
        id="11", type="insert", schema="public", table="orders", tx="11", last=True, at_text="", cursor="abcd~12:12:",
        pk_json='{"id":1}', row_json='{"id":1}',
    )  # fmt: skip
    return Page((change,) * number, Cursor("abcd", UNTIL))


SIZE = FEW * weight(page().events[0])


def test_the_next_one_gets_the_same_objects() -> None:
    pages, read = Pages(SIZE), page()
    first = pages.keep(SINCE, UNTIL, read)
    assert first.is_shared
    assert (first.events, first.cursor) == (read.events, read.cursor)
    assert pages.of(SINCE, UNTIL) is first


@pytest.mark.parametrize(
    ("since", "until", "does"),
    [
        (SINCE, Snapshot(95, 95), True),  # all that ran has ended
        (SINCE, Snapshot(92, 120, (92,)), True),
        (SINCE, Snapshot(90, 95, (90, 91, 92)), False),  # who came first, and asks later
        (SINCE, Snapshot(94, 94), False),
        (SINCE, Snapshot(88, 120, (88,)), False),  # it would get a change that its position does not show
        (OTHER, UNTIL, False),
    ],
)
def test_it_does_for_who_is_there_and_goes_as_far(since: Cursor, until: Snapshot, does: bool) -> None:
    pages = Pages(SIZE)
    pages.keep(SINCE, UNTIL, page())
    assert (pages.of(since, until) is not None) is does


def test_a_tiny_one_is_read_by_each_when_it_is_the_last() -> None:
    pages, read = Pages(SIZE), page(FEW - 1)
    assert pages.keep(SINCE, UNTIL, read) is read
    assert not read.is_shared
    assert pages.of(SINCE, UNTIL) is None
    pages.keep(SINCE, UNTIL, replace(read, cursor=Cursor("abcd", SINCE.snapshot, UNTIL, 11)))
    assert pages.of(SINCE, UNTIL)


def test_they_are_bounded_and_the_oldest_goes_first() -> None:
    pages = Pages(2 * SIZE)
    for xid in (10, 11, 12):
        pages.keep(Cursor("abcd", Snapshot(xid, xid)), UNTIL, page())
    assert [pages.of(Cursor("abcd", Snapshot(xid, xid)), UNTIL) is not None for xid in (10, 11, 12)] == [
        False,
        True,
        True,
    ]
    too_large = page(3 * FEW)
    assert pages.keep(SINCE, UNTIL, too_large) is too_large
    assert pages.of(OTHER, UNTIL)


def test_one_in_place_of_another_counts_once() -> None:
    pages = Pages(2 * SIZE)
    for _ in range(5):
        pages.keep(SINCE, UNTIL, page())
    pages.keep(OTHER, UNTIL, page())
    assert pages.of(SINCE, UNTIL)
    assert pages.of(OTHER, UNTIL)


def test_they_are_forgotten_after_a_while() -> None:
    now = 100.0
    pages = Pages(2 * SIZE, lambda: now)
    pages.keep(SINCE, UNTIL, page())
    now += MOST_SECONDS
    pages.keep(OTHER, UNTIL, page())
    assert pages.of(SINCE, UNTIL)
    now += 1
    assert pages.of(SINCE, UNTIL) is None
    assert pages.of(OTHER, UNTIL)


def test_of_another_log_nothing_is_left() -> None:
    pages = Pages(SIZE)
    pages.keep(SINCE, UNTIL, page())
    pages.forget_all()
    assert pages.of(SINCE, UNTIL) is None
    pages.keep(OTHER, UNTIL, page())
    assert pages.of(OTHER, UNTIL)
