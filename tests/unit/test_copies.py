"""Copies: of a crowd that comes back the first one pays for all; what is kept is bounded, nobody gets another's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pgevents_push import waiting
from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, Gap, TableName
from pgevents_push.hub import Hub, Page, View
from pgevents_push.hub.copies import COPY_BYTES, MOST_SECONDS, Copies
from pgevents_push.transports import resume
from pgevents_push.transports.sse_format import encode_json

SINCE, UNTIL = Cursor.parse("abcd~10:10:"), Snapshot(90, 90)


class Encoder:
    """Encodes, and counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, event: ChangeEvent | Gap, view: View) -> bytes | None:
        self.made += 1
        assert isinstance(event, Gap) or event.id != "13", "a bug"
        return None if isinstance(event, ChangeEvent) and event.id == "12" else encode_json(event, view)


def change(number: int) -> ChangeEvent:
    return ChangeEvent(
        id=str(number), type="insert", schema="public", table="orders", tx=str(number), last=True, at_text="",
        cursor=f"abcd~{number + 1}:{number + 1}:", pk_json=f'{{"id":{number}}}', row_json=f'{{"id":{number},"n":1}}',
    )  # fmt: skip


def viewing(encode: Encoder, *columns: str) -> View:
    return View(TableName("public", "orders"), frozenset(CHANGE_TYPES), frozenset(columns), None, encode)


def frames(hub: Hub, view: View, events: tuple[ChangeEvent, ...], is_shared: bool = True) -> list[bytes]:
    @contextmanager
    def recall(since: Cursor, until: Snapshot) -> Iterator[Page]:
        yield Page(events, Cursor(since.epoch, until), is_shared=is_shared)

    return resume.read_on(recall, SINCE, UNTIL, [view], hub)[0]


def test_a_crowd_is_encoded_for_once() -> None:
    hub, encode, events = Hub(1_000_000), Encoder(), (change(11), change(12), change(14))
    first, *others = [frames(hub, viewing(encode, "id", "n"), events) for _ in range(5)]
    assert encode.made == 3
    assert [b'"id":11' in frame or b'"id":14' in frame for frame in first] == [True, True]
    assert others == [first] * 4


def test_who_sees_something_else_does_not_get_it() -> None:
    hub, encode, events = Hub(1_000_000), Encoder(), (change(11),)
    with_n, without = frames(hub, viewing(encode, "id", "n"), events), frames(hub, viewing(encode, "id"), events)
    assert [b'"n":1' in frame for frame in with_n + without] == [True, False]
    only = replace(viewing(encode, "id", "n"), types=frozenset({"delete"}))
    assert frames(hub, only, events) == []


def test_a_change_that_only_looks_the_same_is_another_one() -> None:
    """After PostgreSQL lost its last seconds, a number may come again."""
    hub, encode = Hub(1_000_000), Encoder()
    view = viewing(encode, "id", "n")
    [before], [after] = frames(hub, view, (change(11),)), frames(hub, view, (change(11).replace(row_json='{"n":2}'),))
    assert b'"n":1' in before
    assert b'"n":2' in after


def test_what_comes_from_the_log_is_not_kept() -> None:
    """Each client gets objects of its own: nobody would find them."""
    hub, view = Hub(1_000_000), viewing(Encoder(), "id")
    frames(hub, view, (change(11),), is_shared=False)
    assert hub.copies.of(view) == {}


def test_what_failed_is_tried_again() -> None:
    hub, encode, events = Hub(1_000_000), Encoder(), (change(13),)
    for _ in range(2):
        assert [b"gap" in frame for frame in frames(hub, viewing(encode, "id"), events)] == [True]
    assert encode.made == 4  # each time the change, and the gap in place of it


def test_they_are_bounded() -> None:
    copies, view, event = Copies(3 * (COPY_BYTES + 10)), viewing(Encoder(), "id"), change(11)
    kept = [event.replace(id=str(number)) for number in range(4)]
    for one in kept[:3]:
        copies.keep(view, one, b"x" * 10)
    assert copies.of(view) == {id(one): (one, b"x" * 10) for one in kept[:3]}
    copies.keep(view, kept[3], b"x" * 10)
    assert copies.of(view) == {id(kept[3]): (kept[3], b"x" * 10)}
    copies.keep(view, event, b"x" * 1000)
    assert copies.of(view) == {}


def test_they_are_forgotten_after_a_while() -> None:
    now = 100.0
    copies, view, event = Copies(1000, lambda: now), viewing(Encoder(), "id"), change(11)
    copies.keep(view, event, b"x")
    now += MOST_SECONDS
    assert copies.of(view)
    now += 1
    assert not copies.of(view)


def test_no_page_keeps_the_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = list[float]()
    monkeypatch.setattr(waiting, "sleep", turns.append)
    events = tuple(change(number) for number in range(1000, 1000 + 4 * resume.AT_ONCE))
    hub, view = Hub(1_000_000), viewing(Encoder(), "id")
    frames(hub, view, events)
    assert len(turns) >= 4
    turns.clear()
    frames(hub, view, events * int(1 / resume.PASSING))
    assert len(turns) == 4
