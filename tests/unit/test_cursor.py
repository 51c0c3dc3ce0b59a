"""The snapshot cursor: its text means one position, or is refused; what it sees agrees with a model."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.cursor import LONGEST, Cursor, Snapshot, for_client, inside_batch
from pgevents_push.errors import CursorError

SAFE = re.compile(r"[A-Za-z0-9_.~:-]+")
epochs = st.from_regex(r"[0-9a-f]{4,32}", fullmatch=True)
ids = st.integers(0, 2**63 - 1)


@st.composite
def snapshots(draw: st.DrawFn, least: int = 1) -> Snapshot:
    xids = st.integers(least, 2**64 - 5000).filter(lambda xid: 5000 < xid % 2**32 < 2**32 - 5000 or xid < 5000)
    xmin = draw(xids)
    running = sorted(draw(st.sets(st.integers(xmin, xmin + 3000), max_size=8)))
    xmax = draw(st.integers(max([xmin, *(x + 1 for x in running)]), xmin + 3100))
    return Snapshot(xmin, xmax, tuple(running))


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    first = draw(snapshots())
    if draw(st.booleans()):
        return Cursor(draw(epochs), first)
    later = Snapshot(first.xmin + 1, first.xmax + draw(st.integers(1, 40)))
    return Cursor(draw(epochs), first, later, draw(ids))


@settings(max_examples=40, deadline=None)
@given(cursors())
def test_the_text_comes_back_and_is_safe_everywhere(cursor: Cursor) -> None:
    text = str(cursor)
    assert Cursor.parse(text) == cursor
    assert SAFE.fullmatch(text)


@settings(max_examples=40, deadline=None)
@given(snapshots())
def test_postgresqls_own_text_comes_back(snapshot: Snapshot) -> None:
    assert Snapshot.parse(str(snapshot)) == snapshot
    assert Snapshot.from_cursor(snapshot.in_cursor()) == snapshot


@settings(max_examples=25, deadline=None)
@given(cursors().filter(lambda c: c.until is not None))
def test_the_shared_part_and_an_id_make_the_cursor_inside_a_batch(cursor: Cursor) -> None:
    assert cursor.until is not None
    assert inside_batch(cursor.epoch, cursor.snapshot, cursor.until) + str(cursor.last_id) == str(cursor)


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text("0123456789abcdef~:.,-", max_size=60)))
def test_garbage_raises_nothing_but_cursor_error(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except CursorError:
        return
    assert Cursor.parse(str(cursor)) == cursor


@settings(max_examples=40, deadline=None)
@given(cursors(), st.data())
def test_a_character_more_less_or_other_is_another_cursor_or_none(cursor: Cursor, data: st.DataObject) -> None:
    text = str(cursor)
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from("0a~:.-,\n \u0663\0"))
    for tampered in (text[:at] + text[at + 1 :], text[:at] + character + text[at:], text[:at] + character):
        try:
            parsed = Cursor.parse(tampered)
        except CursorError:
            continue
        assert SAFE.fullmatch(str(parsed))


@pytest.mark.parametrize(
    "text",
    [
        "10:9:",  # ends before it begins
        "10:20:9",  # running below xmin
        "10:20:20",  # running although not begun
        "10:20:21",
        "10:20:12,11",  # not ascending
        "10:20:12,12",
        "0:0:",  # no transaction has the number 0
        "0:5:",
        f"1:{2**64}:",  # no xid8
        f"{2**32}:{2**32 + 5}:",  # the lower 32 bits are 0: PostgreSQL reads no such thing
        f"5:{2**33}:",
        "10:20",
        "10:20:12,",
        "-1:20:",
        " 10:20:",
        "10:20:\n",
        "\u0661:\u0662:",
        "",
    ],
)
def test_a_snapshot_that_postgresql_would_refuse_is_refused_here(text: str) -> None:
    with pytest.raises(CursorError):
        Snapshot.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "abcd",
        "abc~10:20:",  # the epoch is too short
        "ABCD~10:20:",
        "abcd~10:20:~10:30:",  # two snapshots and no event
        "abcd~10:20:~10:30:~x",
        "abcd~10:20:~10:30:~-1",
        f"abcd~10:20:~10:30:~{2**63}",  # no bigint
        "abcd~10:20:~10:15:~3",  # the batch ends before it begins
        "abcd~10:20:~9:30:9~3",
        "abcd~10:20:~10:30:~3~",
        "abcd~10:20:0.",
        "abcd~10:20:0..4",
        "abcd~10:20:0.A",
        "abcd~10:20:" + "z" * 5000,
        "a" * 10_000,
    ],
)
def test_an_impossible_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorError) as caught:
        Cursor.parse(text)
    assert len(str(caught.value)) < 250


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(1, 60)), st.integers(1, 61))
def test_sees_says_what_had_ended(running: set[int], next_xid: int) -> None:
    """The model: transactions below `next_xid` have begun, those in `running` have not ended."""
    open_ = sorted(xid for xid in running if xid < next_xid)
    snapshot = Snapshot(open_[0] if open_ else next_xid, next_xid, tuple(open_))
    for xid in range(1, 66):
        assert snapshot.sees(xid) == (xid < next_xid and xid not in open_)


@pytest.mark.parametrize(("running", "apart", "most"), [(500, 100, 4100), (999, 30, 6100), (1500, 900, 12_100)])
def test_with_many_open_transactions_it_fits_a_request(running: int, apart: int, most: int) -> None:
    """As a header and in the URL; the xids are those of a cluster that has seen ten billion of them."""
    first = 10_000_000_000
    open_now = tuple(range(first, first + running * apart, apart))
    start, until = Snapshot(first, open_now[-1] + 1, open_now), Snapshot(first, open_now[-1] + 2, open_now)
    cursor = Cursor("0123456789ab", start, until, 2**63 - 1)
    assert Cursor.parse(str(cursor)) == cursor
    assert len(str(cursor)) < most
    shown = for_client(str(cursor))
    assert len(shown) <= LONGEST
    if shown != str(cursor):  # by rule: who comes back with it is told of a gap
        with pytest.raises(CursorError):
            Cursor.parse(shown)


def test_at_the_end_of_a_round_of_xids_it_is_one_that_postgresql_reads() -> None:
    """There is no transaction whose lower 32 bits are 0, and PostgreSQL refuses to read a snapshot that says so."""
    cut = Snapshot(2**32 - 9, 2**32 + 3).up_to(2**32 - 1)
    cut._check()
    assert cut.sees(2**32 - 1)
    assert not cut.sees(2**32 + 3)


@settings(max_examples=60, deadline=None)
@given(snapshots(), st.integers(0, 200))
def test_up_to_an_xid_it_says_the_same_and_of_later_ones_nothing(snapshot: Snapshot, beyond: int) -> None:
    xid = max(0, snapshot.xmin - 20) + beyond
    cut = snapshot.up_to(xid)
    cut._check()
    assert snapshot.covers(cut)
    assert all(
        cut.sees(x) == (x <= xid and snapshot.sees(x)) for x in range(max(1, snapshot.xmin - 30), snapshot.xmax + 5)
    )
