"""The soak's checker notices each kind of wrong: a perfect client, and the same one with its memory tampered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.checker import PERFECT, Verdict
from tests.faults.soak_checker import Logged, unlike_tables, verdict_of
from tests.faults.soak_clients import Client, Frame

Frames = list[Frame]
LOG = [
    Logged(1, 10, "item", "i", {"id": 1}, None, {"id": 1, "n": 0}, False),
    Logged(2, 10, "item", "i", {"id": 2}, None, {"id": 2, "n": 0}, True),
    Logged(3, 11, "item", "u", {"id": 1}, None, {"id": 1, "n": 1}, True),
    Logged(4, 12, "item", "u", {"id": 3}, {"id": 2}, {"id": 3, "n": 1}, True),
    Logged(5, 13, "item", "t", {}, None, None, True),
    Logged(6, 14, "item", "i", {"id": 9}, None, {"id": 9, "n": 0}, True),
]
TYPES = {"i": "insert", "u": "update", "d": "delete", "t": "truncate"}


def change(row: Logged, cursor: str = "") -> Frame:
    old_pk = {"old_pk": row.old_pk} if row.old_pk else {}
    data = {"id": str(row.id), "tx": str(row.xid), "type": TYPES[row.type], "table": row.table, "pk": row.pk}
    return Frame(TYPES[row.type], cursor or f"abcd~{row.xid + 1}:{row.xid + 1}:",
                 {**data, **old_pk, "row": row.row, "last": row.last})  # fmt: skip


def ready(cursor: str, resumed: bool) -> Frame:
    return Frame("ready", cursor, {"resumed": resumed})


def client(*frames: Frame) -> Client:
    made = Client("test", 0, ["item"])
    made.frames += frames or [Frame("connect", ""), ready("abcd~10:10:", False), *map(change, LOG)]
    return made


def test_perfect() -> None:
    assert verdict_of(LOG, client()) == PERFECT
    assert verdict_of(LOG, client(), whole=True) == PERFECT


def test_who_never_was_ready_has_missed_nothing() -> None:
    assert verdict_of(LOG, client(Frame("connect", ""))) == PERFECT


def swap(frames: Frames, a: int, b: int) -> None:
    frames[a + 2], frames[b + 2] = frames[b + 2], frames[a + 2]


def change_data(frames: Frames, at: int, **data: Any) -> None:
    frames[at + 2] = frames[at + 2]._replace(data={**frames[at + 2].data, **data})


def again(frames: Frames, at: int) -> None:
    """It came back, named its last cursor, and got one change twice."""
    last = frames[-1].cursor
    frames += [Frame("connect", last), ready(last, True), frames[at + 2]]


@pytest.mark.parametrize(
    ("kind", "tamper"),
    [
        ("missed", lambda frames: frames.pop(5)),
        ("missed", lambda frames: frames.pop()),
        ("missed", lambda frames: frames.pop(2)),
        ("duplicated", lambda frames: frames.append(frames[-1])),
        ("duplicated", lambda frames: again(frames, 5)),
        ("duplicated", lambda frames: again(frames, 0)),
        ("reordered", lambda frames: swap(frames, 0, 2)),
        ("reordered", lambda frames: swap(frames, 4, 5)),
        ("reordered", lambda frames: swap(frames, 3, 4)),
        ("split", lambda frames: swap(frames, 1, 2)),
        ("split", lambda frames: swap(frames, 0, 1)),
        ("wrong", lambda frames: change_data(frames, 0, row={"id": 1, "n": 7})),
        ("wrong", lambda frames: change_data(frames, 3, old_pk=None)),
        ("wrong", lambda frames: change_data(frames, 3, id="77")),
        ("wrong", lambda frames: change_data(frames, 2, type="insert")),
        ("wrong", lambda frames: change_data(frames, 1, pk={"id": 1})),
    ],
)
def test_each_kind_of_wrong(kind: str, tamper: Callable[[Frames], Any]) -> None:
    tampered = client()
    tamper(tampered.frames)
    assert getattr(verdict_of(LOG, tampered), kind) > 0


BEGIN = [Frame("connect", ""), ready("abcd~10:10:", False), *map(change, LOG[:3])]
AFTER = "abcd~14:14:"  # only the last one is yet to come
GAP = Frame("gap", AFTER, {"reason": "retention"})


@pytest.mark.parametrize(
    ("verdict", "frames"),
    [
        (PERFECT, [Frame("connect", "abcd~12:12:"), ready(AFTER, False), GAP, change(LOG[5])]),
        # It was not resumed, and not told.
        (Verdict(missed=2, silent=1), [Frame("connect", "abcd~12:12:"), ready(AFTER, False), change(LOG[5])]),
        (Verdict(missed=3, silent=1), [Frame("connect", "abcd~12:12:"), ready(AFTER, False)]),
        # It was resumed, but not with everything.
        (Verdict(missed=2), [Frame("connect", "abcd~12:12:"), ready("abcd~12:12:", True), change(LOG[5])]),
        # The gap excuses what lies before it, not what comes after it.
        (Verdict(missed=1), [Frame("connect", "abcd~12:12:"), ready(AFTER, False), GAP]),
        # Nor what had to come before the cursor that it named, here with the fourth change.
        (Verdict(missed=1), [Frame("connect", "abcd~13:13:"), ready(AFTER, False), GAP, change(LOG[5])]),
    ],
)  # fmt: skip
def test_gaps(verdict: Verdict, frames: Frames) -> None:
    assert verdict_of(LOG, client(*BEGIN, *frames)) == verdict


def test_a_gap_in_the_middle_of_a_batch() -> None:
    """The cursor says how far into the batch between two snapshots somebody was when the gap came."""
    inside = "abcd~10:10:~13:13:~3"
    gap = [ready(AFTER, False), Frame("gap", AFTER, {"reason": "epoch"}), change(LOG[5])]
    told = [*BEGIN[:-1], change(LOG[2], inside), Frame("connect", inside), *gap]
    assert verdict_of(LOG, client(*told)) == PERFECT
    del told[3]
    assert verdict_of(LOG, client(*told)) == Verdict(missed=1)


def test_what_was_there_before_a_client_that_came_late() -> None:
    late = [Frame("connect", ""), ready("abcd~13:13:", False), *map(change, LOG[4:])]
    assert verdict_of(LOG, client(*late)) == PERFECT
    assert verdict_of(LOG, client(*late), whole=True).missed == 4


def test_the_log_played_upon_the_tables() -> None:
    before = [("item", {"id": 5, "n": 5})]
    assert unlike_tables(LOG[:4], before, [*before, ("item", {"id": 1, "n": 1}), ("item", {"id": 3, "n": 1})]) == []
    assert unlike_tables(LOG, before, [("item", {"id": 9, "n": 0})]) == []
    assert unlike_tables(LOG, before, [("item", {"id": 9, "n": 1})])
    assert unlike_tables(LOG[:-1], before, [("item", {"id": 9, "n": 0})])
