"""ChangeEvent and TableName: immutable, exact, decoded only when looked at."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push import event as module
from pgevents_push.errors import TargetError
from pgevents_push.event import ChangeEvent, TableName, decode
from pgevents_push.testing import make_event


@pytest.fixture(params=["orjson", "json"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the extra `fast` and without it."""
    monkeypatch.setattr(module, "fast_loads", pytest.importorskip(request.param).loads)
    return str(request.param)


# --- TableName


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("orders", ("shop", "orders")),
        ("Orders", ("shop", "Orders")),
        ("sales.orders", ("sales", "orders")),
        ('"my.schema"."my.table"', ("my.schema", "my.table")),
        ('"say ""hi"""', ("shop", 'say "hi"')),
        ('sales."a b"', ("sales", "a b")),
        ("tabelle_ö.zeile ☃", ("tabelle_ö", "zeile ☃")),
        ("order-lines", ("shop", "order-lines")),
    ],
)
def test_a_table_name_is_read_exactly(text: str, name: tuple[str, str]) -> None:
    assert TableName.parse(text, "shop") == name


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a.b.c", '"a', 'a"', '"a"b', '""', 'a."', "a\0b", "\ud800"]
)
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(TargetError):
        TableName.parse(text)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1, max_size=2
    )
)
def test_any_name_can_be_written_in_quotes(parts: list[str]) -> None:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    assert tuple(TableName.parse(quoted, "d")) == tuple(["d", *parts][-2:])


# --- decode

EXACT = [
    ("9007199254740993", 9007199254740993),
    ("-9223372036854775808", -(2**63)),
    ("18446744073709551616", 2**64),
    ("0.1", 0.1),
    ("1.50", 1.5),
    ("0.12345678901234567890", Decimal("0.12345678901234567890")),
    ("123456789012345678.5", Decimal("123456789012345678.5")),
    ("1e400", Decimal("1e400")),
    ("1e-400", Decimal("1e-400")),
    ("1E2", 100.0),
    (r'"\ud83d\ude00"', "😀"),
    (r'"\ud800"', "\ud800"),
    (r'"\u0000"', "\0"),
    (r'"1234567890123456789"', "1234567890123456789"),
    ('"\u2028"', "\u2028"),
]


@pytest.mark.parametrize(("text", "value"), EXACT)
def test_no_digit_and_no_character_is_lost(text: str, value: object, fast: str) -> None:
    decoded = decode(f'{{"a": [{text}]}}')["a"][0]
    assert decoded == value
    assert type(decoded) is type(value)


def test_a_number_of_more_digits_than_int_takes_is_a_decimal(fast: str) -> None:
    assert decode("1" * 5000) == Decimal("1" * 5000)


numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=None).map(lambda d: format(d, "f")),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)


@settings(max_examples=40, deadline=None)
@given(numbers)
def test_every_number_keeps_its_value(text: str) -> None:
    value = decode(f"[{text}]")[0]
    exact = Decimal(text)
    assert (value if isinstance(value, Decimal) else Decimal(repr(value))) == exact


fractions = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(json_values, st.booleans())
def test_both_decoders_say_the_same(value: object, ascii_: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_)
    if not ascii_:
        try:
            text.encode()
        except UnicodeEncodeError:  # PostgreSQL's UTF-8 holds no lone surrogate, only their escapes
            return
    results = []
    for loads in (module._orjson.loads, json.loads):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "fast_loads", loads)
            results.append(repr(decode(text)))
    assert results[0] == results[1]


def test_deep_json_is_decoded_or_refused_as_a_value_error(fast: str) -> None:
    assert decode("[" * 200 + "]" * 200)


# --- ChangeEvent


def sample(**changes: Any) -> ChangeEvent:
    event = make_event("shop.orders", "update", row={"id": 7, "total": 3}, old={"total": 2})
    return event.replace(**changes) if changes else event


def test_what_a_handler_reads() -> None:
    event = sample()
    assert (event.type, event.schema, event.table, str(event.table_name)) == ("update", "shop", "orders", "shop.orders")
    assert (event.pk, event.old_pk, event.row, event.old) == ({"id": 7}, None, {"id": 7, "total": 3}, {"total": 2})
    assert event.changed == ("total",)
    assert event.truncated is False
    assert event.last is True
    assert event.at.utcoffset() == timedelta(0)
    assert event.committed_at == event.at


def test_the_time_of_the_commit_is_that_of_the_transactions_last_row() -> None:
    event = sample(at_text="2026-01-02T03:04:05.000006+00:00", committed_at_text="2026-01-02T03:04:06.000006+00:00")
    assert event.committed_at - event.at == timedelta(seconds=1)


@pytest.mark.parametrize("name", ["id", "row", "pk_json", "anything"])
def test_nothing_can_be_set_or_deleted(name: str) -> None:
    event = sample()
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, name, "x")
    with pytest.raises(AttributeError, match="immutable"):
        delattr(event, name)


def test_a_copy_has_values_of_its_own() -> None:
    event = sample()
    assert event.row is not None
    event.row["id"] = "spoilt"
    copied = event.replace()
    assert copied.row == {"id": 7, "total": 3}
    assert copied.replace(type="delete").type == "delete"
    assert event.type == "update"


def through_pickle(event: ChangeEvent) -> ChangeEvent:
    copied: ChangeEvent = pickle.loads(pickle.dumps(event))  # noqa: S301 - our own bytes
    return copied


def test_it_can_be_handed_to_another_thread_or_process() -> None:
    event = sample(actor_text='{"user": 7}')
    for copied in (copy.copy(event), copy.deepcopy(event), through_pickle(event)):
        assert (copied.id, copied.row, copied.actor, copied.at) == (event.id, event.row, {"user": 7}, event.at)


def test_the_row_is_decoded_once_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(text: str) -> Any:
        calls.append(text)
        return json.loads(text)

    monkeypatch.setattr(module, "decode", counted)
    event = sample()
    assert not calls
    assert event.row is event.row
    assert len(calls) == 1


def test_its_repr_shows_no_row() -> None:
    assert repr(make_event("orders", row={"id": 7, "card": "4711"})).count("4711") == 0
    assert '{"id":7}' in repr(make_event("orders", row={"id": 7}))


@pytest.mark.parametrize(
    ("text", "actor"),
    [
        (None, {}),
        ("", {}),
        ('{"user": 7}', {"user": 7}),
        ("7", {"raw": "7"}),
        ("alice", {"raw": "alice"}),
        ('["a"]', {"raw": '["a"]'}),
        ('{"user": ', {"raw": '{"user": '}),
        ("[" * 5000, {"raw": "[" * 5000}),
    ],
)
def test_the_actor_is_always_a_mapping(text: str | None, actor: dict[str, Any], fast: str) -> None:
    event = sample(actor_text=text)
    assert event.actor == actor
    assert isinstance(event.actor, MappingProxyType)


def test_load_without_a_model_says_so() -> None:
    with pytest.raises(TargetError, match=r"shop.orders has no model"):
        sample().load()
