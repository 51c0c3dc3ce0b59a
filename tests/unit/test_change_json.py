"""What a browser gets of a change: nothing hidden, no digit lost, everything else as PostgreSQL spelled it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import Chunk, View
from pgevents_push.testing import make_event
from pgevents_push.transports.change_json import _members, change_json, rows_json

CANARY = "k4n4rie"
quick = settings(max_examples=30, deadline=None)


def view(columns: set[str] | None = None, exposed: set[str] | None = None) -> View:
    seen = None if columns is None else frozenset(columns)
    allowed = seen if exposed is None else frozenset(exposed)
    table = make_event("shop.orders").table_name
    return View(table, frozenset(CHANGE_TYPES), seen, allowed, lambda event, view: None)


def shown(event: ChangeEvent, columns: set[str] | None = None, exposed: set[str] | None = None) -> Any:
    text = change_json(event, view(columns, exposed))
    return None if text is None else json.loads(text)


def update(row: dict[str, Any], old: dict[str, Any], **more: Any) -> ChangeEvent:
    return make_event("shop.orders", "update", row=row, old=old).replace(**more)


# --- The object


def test_an_insert_has_all_the_fields_and_no_other() -> None:
    event = make_event("shop.orders", row={"id": 7, "total": 3})
    assert shown(event) == {
        "id": event.id,
        "type": "insert",
        "schema": "shop",
        "table": "orders",
        "pk": {"id": 7},
        "row": {"id": 7, "total": 3},
        "old": None,
        "changed": [],
        "tx": event.tx,
        "last": True,
        "at": event.at_text,
    }


def test_a_delete_has_the_old_row_and_a_truncate_nothing() -> None:
    assert shown(make_event("shop.orders", "delete", old={"id": 7, "total": 3}))["old"] == {"id": 7, "total": 3}
    truncated = shown(make_event("shop.orders", "truncate"))
    assert (truncated["pk"], truncated["row"], truncated["old"]) == ({}, None, None)


def test_a_change_of_the_key_tells_both() -> None:
    event = update({"id": 8}, {"id": 7}, old_pk_json='{"id":7}')
    assert (shown(event)["pk"], shown(event)["old_pk"]) == ({"id": 8}, {"id": 7})


def test_a_row_over_the_cap_says_so() -> None:
    event = update({"id": 7}, {"total": 1}, row_json=None, old_json=None, truncated=True)
    assert (shown(event)["truncated"], shown(event)["row"], shown(event)["changed"]) == (True, None, ["total"])


@pytest.mark.parametrize("name", ['say "hi"', "Ünïcode ☃", "a\\b", "x\ny"])
def test_any_name_of_a_table_is_json(name: str) -> None:
    event = make_event("t", row={"id": 1}).replace(table=name, schema=name)
    assert (shown(event)["table"], shown(event)["schema"]) == (name, name)


# --- Hidden columns

names = st.sampled_from(["id", "a", "b", "c", 'q"u', "ö", "a.b", "\\", "row", "pk"])
texts = st.text(max_size=6) | st.sampled_from(['"', "\\", "}", ","])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**66), 2**66)
    | st.text(max_size=6)
    | st.sampled_from(['"', "\\", "}", ","]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
rows = st.dictionaries(names, values, max_size=6)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n ")])


@quick
@given(rows, separators)
def test_members_are_those_of_json(row: dict[str, Any], spelled: tuple[str, str]) -> None:
    text = json.dumps(row, separators=spelled)
    members = _members(text)
    assert [name for name, _ in members] == list(row)
    assert json.loads("{" + ",".join(raw for _, raw in members) + "}") == row
    assert all(raw in text for _, raw in members)


@quick
@given(rows, rows, st.sets(names), st.sets(names), st.sampled_from(CHANGE_TYPES))
def test_a_hidden_column_leaves_no_trace(
    row: dict[str, Any], old: dict[str, Any], exposed: set[str], columns: set[str], type_: Any
) -> None:
    """The hidden columns' names and values carry a canary; it must come out nowhere."""
    columns &= exposed

    def name(n: str) -> str:
        return n if n in exposed else f"{n}{CANARY}"

    def marked(values: dict[str, Any]) -> str:
        return json.dumps({name(n): v if n in exposed else [CANARY, {n: CANARY}] for n, v in values.items()})

    changed = json.dumps([name(n) for n in old])
    event = make_event("shop.orders", type_).replace(
        pk_json=marked(row), old_pk_json=marked(old), row_json=marked(row), old_json=marked(old), changed_json=changed
    )
    text = change_json(event, view(columns, exposed))
    assert CANARY not in (text or "")
    if text is not None:
        out = json.loads(text)
        assert out["row"] == {n: v for n, v in shown_values(row).items() if n in columns}
        assert set(out["pk"]) == set(row) & exposed
        assert set(out["changed"]) <= columns


def shown_values(row: dict[str, Any]) -> dict[str, Any]:
    """The model of numbers: an integer that a double cannot hold is its text."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {n: walk(v) for n, v in value.items()}
        if isinstance(value, list):
            return [walk(v) for v in value]
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53 - 1:
            return str(value)
        return value

    return {n: walk(v) for n, v in row.items()}


def test_an_update_of_hidden_columns_alone_does_not_exist() -> None:
    event = update({"id": 7, "secret": 2}, {"secret": 1})
    assert shown(event, {"id"}) is None
    assert shown(event.replace(truncated=True), {"id"}) is None
    assert shown(event)["changed"] == ["secret"]


def test_an_update_of_exposed_columns_that_are_not_asked_for_does_not_exist() -> None:
    assert shown(update({"id": 7, "total": 2}, {"total": 1}), {"id"}, {"id", "total"}) is None


def test_a_change_of_a_hidden_key_does_not_exist() -> None:
    event = update({"id": 8, "total": 1}, {"id": 7}, old_pk_json='{"id":7}')
    assert shown(event, {"total"}) is None
    both = update({"id": 8, "no": 1}, {"id": 7}, pk_json='{"id":8,"no":1}', old_pk_json='{"id":7,"no":1}')
    assert shown(both, {"no"}) is None


def test_the_key_is_bounded_by_what_is_exposed_and_not_by_the_subset() -> None:
    event = make_event("shop.orders", row={"id": 7, "tenant": 1, "total": 3}, pk={"tenant": 1, "id": 7})
    out = shown(event, {"total"}, {"id", "total"})
    assert (out["pk"], out["row"]) == ({"id": 7}, {"total": 3})


# --- Numbers


def garbled(text: str) -> bool:
    """Whether `JSON.parse` of a browser would make another number of it."""
    if text.lstrip("-").isdigit():
        return abs(int(text)) > 2**53 - 1
    return Decimal(repr(float(text))) != Decimal(text)


number_texts = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-(2**53) - 3, -(2**53) + 3).map(str),
    st.integers(2**53 - 3, 2**53 + 3).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=None).map(lambda d: format(d, "f")),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?[1-9][0-9]{0,20}(\.[0-9]{1,12})?[eE][+-]?[0-9]{1,3}", fullmatch=True),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(number_texts, min_size=1, max_size=3))
def test_numbers_that_javascript_would_garble_become_strings_and_no_others(texts: list[str]) -> None:
    row = '{"id":1,"n":[' + ",".join(texts) + "]}"
    out = change_json(make_event("shop.orders").replace(row_json=row), view())
    assert out is not None
    parsed = json.loads(out, parse_int=lambda t: Decimal(t), parse_float=lambda t: Decimal(t))["row"]["n"]
    for text, value in zip(texts, parsed, strict=True):
        if garbled(text):
            assert value == text
        else:
            assert value == Decimal(text)


def test_texts_of_digits_stay_as_they_are() -> None:
    row = {"id": 1, "iban": "DE00123456789012345678", "s": "9007199254740993"}
    assert shown(make_event("shop.orders", row=row))["row"] == row


def test_what_needs_no_care_passes_through_as_it_is_spelled() -> None:
    row = '{"id":1,"j":{"b" : 1.50,\n"a":[ ] },"u":"\\u00e4"}'
    out = change_json(make_event("shop.orders").replace(row_json=row), view())
    assert out is not None
    assert row in out


def test_a_lone_surrogate_of_a_json_column_survives_a_large_number() -> None:
    row = r'{"id":9007199254740993,"j":"\ud800"}'
    out = change_json(make_event("shop.orders").replace(row_json=row), view())
    assert out is not None
    assert out.encode()
    assert json.loads(out)["row"] == {"id": "9007199254740993", "j": "\ud800"}


@pytest.mark.parametrize("number", ["1", "9007199254740993"])
@pytest.mark.parametrize("columns", [None, {"id", "j"}])
def test_json_that_is_nested_deeper_than_python_can_follow_still_arrives(number: str, columns: set[str] | None) -> None:
    """PostgreSQL takes several thousand levels; any writer may send them."""
    deep = "[" * 3000 + "]" * 3000
    row = f'{{"id":{number},"j":{deep},"hidden":"{CANARY}"}}'
    out = change_json(make_event("shop.orders").replace(row_json=row), view(columns))
    assert out is not None
    assert deep in out
    assert (CANARY in out) is (columns is None)


def test_rows_of_a_snapshot_are_cut_and_spelled_as_changes_are() -> None:
    rows = ('{"pk":{"id":9007199254740993},"row":{"t":"9007199254740993","n":1.10}}', '{"pk":{},"row":null}')
    chunk = Chunk(TableName("public", 'a "b"'), rows, first=True, last=False)
    assert rows_json(chunk) == (
        '{"schema":"public","table":"a \\"b\\"","rows":[{"pk":{"id":"9007199254740993"},"row":{"t":"9007199254740993",'
        '"n":1.10}},{"pk":{},"row":null}],"first":true,"last":false}'
    )
    assert json.loads(rows_json(Chunk(TableName("a", "b"), (), first=False, last=True)))["rows"] == []
