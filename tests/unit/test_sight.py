"""What a change is to who sees a part of the rows: in, out, in or out of it; never a byte of what is not theirs."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from pgevents_push.event import ChangeEvent, decode
from pgevents_push.hub import Sight, View
from tests.fixtures.views import deleted, encode, inserted, seen, too_large, truncated, updated, view

MINE = {"id": 1, "owner_id": 7, "status": "open", "total": 5, "secret": "canary-old"}
THEIRS = {**MINE, "owner_id": 8, "secret": "canary-new"}
OWN = "owner_id=eq.7"


def sees(event: ChangeEvent, look: View) -> Any:
    return seen(Sight(event, Counter()).frame(look))


# --- In and out


def test_what_comes_in_is_an_insert() -> None:
    found = sees(updated(THEIRS, MINE), view(OWN))
    assert (found["type"], found["pk"], found["row"]) == ("insert", {"id": 1}, MINE)
    assert (found["old"], found["changed"]) == (None, [])
    assert "canary-new" not in json.dumps(found), "the row as it was is somebody else's"


def test_what_goes_out_is_a_delete_with_the_key_alone() -> None:
    found = sees(updated(MINE, THEIRS), view(OWN))
    assert (found["type"], found["pk"], found["row"], found["old"]) == ("delete", {"id": 1}, None, None)
    assert "canary" not in json.dumps(found)


def test_what_stays_in_is_the_update() -> None:
    found = sees(updated(MINE, {**MINE, "status": "sent"}), view(OWN))
    assert (found["type"], found["old"], found["changed"]) == ("update", {"status": "open"}, ["status"])
    assert found["row"]["status"] == "sent"


def test_what_stays_out_is_nothing() -> None:
    assert sees(updated(THEIRS, {**THEIRS, "status": "sent"}), view(OWN)) is None


def test_inserts_and_deletes_of_others_are_nothing() -> None:
    assert sees(inserted(THEIRS), view(OWN)) is None
    assert sees(deleted(THEIRS), view(OWN)) is None
    assert sees(inserted(MINE), view(OWN))["row"] == MINE
    assert sees(deleted(MINE), view(OWN))["old"] == MINE


def test_null_is_not_in() -> None:
    nobodys = {**MINE, "owner_id": None}
    assert sees(inserted(nobodys), view(OWN)) is None
    assert sees(inserted(nobodys), view("owner_id=neq.7")) is None
    assert sees(updated(nobodys, MINE), view(OWN))["type"] == "insert"


def test_a_truncate_concerns_everybody() -> None:
    assert sees(truncated(), view(OWN))["type"] == "truncate"


# --- The key


def test_a_row_that_goes_out_with_a_new_key_is_known_by_its_old_one() -> None:
    found = sees(updated(MINE, {**THEIRS, "id": 2}), view(OWN))
    assert (found["type"], found["pk"]) == ("delete", {"id": 1})
    assert "old_pk" not in found


def test_a_row_that_comes_in_with_a_new_key_has_no_old_one() -> None:
    found = sees(updated(THEIRS, {**MINE, "id": 2}), view(OWN))
    assert (found["type"], found["pk"]) == ("insert", {"id": 2})
    assert "old_pk" not in found


def test_a_new_key_inside_is_an_update_that_tells_the_old_one() -> None:
    found = sees(updated(MINE, {**MINE, "id": 2}), view(OWN))
    assert (found["type"], found["pk"], found["old_pk"]) == ("update", {"id": 2}, {"id": 1})


def test_without_a_key_the_row_as_it_was_tells_which_one_has_gone() -> None:
    event = updated(MINE, THEIRS).replace(pk_json="{}", old_json=json.dumps(MINE))
    found = sees(event, view(OWN, columns="id total"))
    assert (found["type"], found["pk"], found["old"]) == ("delete", {}, {"id": 1, "total": 5})


# --- Types and columns


@pytest.mark.parametrize(
    ("types", "before", "after", "expected"),
    [
        (("insert",), THEIRS, MINE, "insert"),
        (("update",), THEIRS, MINE, None),
        (("delete",), MINE, THEIRS, "delete"),
        (("update",), MINE, THEIRS, None),
        (("update",), MINE, {**MINE, "total": 6}, "update"),
        (("insert", "delete"), MINE, {**MINE, "total": 6}, None),
    ],
)
def test_types_are_those_that_the_client_sees(
    types: tuple[Any, ...], before: dict[str, Any], after: dict[str, Any], expected: str | None
) -> None:
    found = sees(updated(before, after), view(OWN, *types))
    assert (found and found["type"]) == expected


def test_a_hidden_column_that_moves_the_row_is_told_and_one_that_does_not_is_not() -> None:
    narrow = view(OWN, columns="id status")
    assert sees(updated(THEIRS, {**THEIRS, "owner_id": 7}), narrow)["row"] == {"id": 1, "status": "open"}
    assert sees(updated(MINE, {**MINE, "owner_id": 8}), narrow)["type"] == "delete"
    assert sees(updated(MINE, {**MINE, "total": 9}), narrow) is None


# --- What cannot be judged


def test_a_gap_concerns_all_who_see_the_table() -> None:
    gap = inserted(MINE).replace(type="gap", row_json=None)
    for look in (view(), view(OWN), view(OWN, "delete"), view("owner_id=eq.9", columns="id")):
        assert sees(gap, look) == {"gap": "schema"}


@pytest.mark.parametrize("kind", ["insert", "update", "delete"])
def test_a_row_that_is_too_large_is_a_gap_for_who_compares_more_than_the_key(kind: Any) -> None:
    assert sees(too_large(kind, 1), view(OWN)) == {"gap": "overflow"}
    assert sees(too_large(kind, 1, 1, "total"), view())["truncated"] is True
    assert sees(too_large(kind, 1, 1, "total"), view("id=eq.1"))["truncated"] is True
    assert sees(too_large(kind, 1), view("id=eq.2")) is None


def test_a_gap_is_told_only_to_who_might_have_got_something() -> None:
    assert sees(too_large("insert", 1), view(OWN, "update", "delete")) is None
    assert sees(too_large("update", 1), view(OWN, "delete")) == {"gap": "overflow"}
    assert sees(too_large("delete", 1), view(OWN, "insert")) is None


def test_a_large_row_with_a_new_key_is_judged_by_both_keys() -> None:
    event = too_large("update", 2, 1, "id").replace(old_pk_json='{"id": 1}')
    assert sees(event, view("id=eq.1"))["type"] == "delete"
    entered = sees(event, view("id=eq.2"))
    assert (entered["type"], entered["row"], entered["truncated"]) == ("insert", None, True)
    assert sees(event, view("id=in.(1,2)"))["old_pk"] == {"id": 1}


def test_of_a_large_row_the_columns_that_are_known_are_used() -> None:
    event = too_large("update", 1, 1, "status").replace(row_json='{"owner_id": 7, "total": 5}')
    assert sees(event, view(OWN))["type"] == "update"
    assert sees(event, view("owner_id=eq.8")) is None
    assert sees(event, view("status=eq.open")) == {"gap": "overflow"}, "it changed, and nobody knows from what"
    assert sees(event, view("and=(owner_id.eq.8,secret.eq.x)")) is None, "somebody else's, whatever it holds"


@pytest.mark.parametrize("levels", [1_100, 5_000])
def test_a_row_that_python_cannot_read_is_a_gap_for_who_compares(levels: int) -> None:
    event = inserted(MINE).replace(row_json=f'{{"id": 1, "owner_id": 7, "deep": {"[" * levels}{"]" * levels}}}')
    assert sees(event, view(OWN)) == {"gap": "overflow"}
    frame = Sight(event, Counter()).frame(view())
    assert frame is not None
    assert b'"deep": [[' in frame


def test_a_column_that_is_gone_is_a_gap() -> None:
    row = {name: value for name, value in MINE.items() if name != "owner_id"}
    assert sees(inserted(row), view(OWN)) == {"gap": "schema"}


def test_a_bug_in_judging_is_a_gap_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, counts = view(OWN), Counter[str]()

    class Broken:
        columns = frozenset({"owner_id"})

        def holds(self, row: Any) -> bool:
            raise ValueError(f"what is {row}?")

    object.__setattr__(look, "condition", Broken())
    assert seen(Sight(inserted(MINE), counts).frame(look)) == {"gap": "schema"}
    assert counts == {"unjudged": 1}
    assert "event 1 could not be judged: ValueError" in caplog.text
    assert "canary" not in caplog.text


# --- Cost


def test_the_row_is_decoded_once_and_only_when_something_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []

    def counting(text: str) -> Any:
        texts.append(text)
        return decode(text)

    monkeypatch.setattr("pgevents_push.hub.sight.decode", counting)
    look = Sight(updated(MINE, {**MINE, "total": 6}), Counter())
    look.frame(view())
    assert texts == []
    for n in range(20):
        look.frame(view(f"owner_id=eq.{n}"))
    assert len(texts) == 2  # the row, and what it was


def test_what_looks_alike_is_encoded_once() -> None:
    calls: list[Any] = []

    def counting(event: Any, look: View) -> bytes | None:
        calls.append(event.type)
        return encode(event, look)

    def counted(text: str) -> View:
        look = view(text)
        object.__setattr__(look, "encode", counting)
        return look

    looks = [counted(f"total=gt.{n}") for n in range(5)]
    sight = Sight(updated({**MINE, "total": 2.5}, {**MINE, "total": 9}), Counter())
    frames = [sight.frame(look) for look in looks]
    assert calls == ["update", "insert"]
    assert frames[0] is frames[2]
    assert frames[3] is frames[4]


def test_the_event_keeps_its_texts_only() -> None:
    event = updated(MINE, THEIRS)
    Sight(event, Counter()).frame(view(OWN))
    assert event._decoded == {}


# --- What is found out once for many


_ROWS: list[dict[str, Any]] = [MINE, THEIRS, {**MINE, "total": 50}, {**THEIRS, "total": None}, {**MINE, "id": 2}]
_LOOKS = [
    view(text, *types, columns=columns)
    for text in ("owner_id=gt.6", "owner_id=gt.7", "owner_id=neq.7", "owner_id=gt.8", "total=gt.9", "", OWN)
    for types in ((), ("insert",), ("delete",))
    for columns in ("", "id owner_id")
]


@pytest.mark.parametrize("hidden", [(), ("total",), ("owner_id", "total")])
def test_who_is_looked_at_with_others_sees_what_he_sees_alone(hidden: tuple[str, ...]) -> None:
    """Also of rows that lack a column, which are judged by what is there."""
    events = [make(row) for row in _ROWS for make in (inserted, deleted)]
    events += [updated(before, after) for before in _ROWS for after in _ROWS if before != after]
    events += [truncated(), too_large("insert", 1), too_large("update", 1, 1, "total"), too_large("delete", 1)]
    for event in events:
        event = event.replace(row_json=_without(event.row_json, hidden), old_json=_without(event.old_json, hidden))
        for looks in (_LOOKS, _LOOKS[::-1]):
            together = Sight(event, Counter())
            for look in looks:
                assert together.frame(look) == Sight(event, Counter()).frame(look), (event, look)


def _without(text: str | None, hidden: tuple[str, ...]) -> str | None:
    return text and json.dumps({name: value for name, value in json.loads(text).items() if name not in hidden})


def test_a_condition_that_fails_among_others_is_a_gap_for_its_own_view_only() -> None:
    counts: Counter[str] = Counter()
    sight, broken = Sight(inserted(MINE), counts), view("owner_id=gt.5")
    object.__setattr__(broken.condition, "holds", lambda row: 1 / 0)
    frames = [seen(sight.frame(look)) for look in (view("owner_id=gt.6"), broken, view("owner_id=gt.4"))]
    assert [frame.get("gap", frame.get("row")) for frame in frames] == [MINE, "schema", MINE]
    assert counts == {"unjudged": 1}
