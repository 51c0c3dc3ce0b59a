"""No content can break out of a frame: read with a parser of the test's own, written after the WHATWG's algorithm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import CHANGE_TYPES, ChangeEvent
from pgevents_push.hub import View
from pgevents_push.testing import make_event
from pgevents_push.transports import resume, sse_format
from tests.fixtures.event_source import EventSource

quick = settings(max_examples=40, deadline=None)


nasty = st.text(
    st.sampled_from('\r\n\u2028\u2029\x85\0\x0b\x0c :ai\ufeff\ud800\udfff☃😀"\\') | st.characters(), max_size=20
)
CURSOR = "abcd~10:20:2.4~10:30:~7"
ALL = View(make_event("t").table_name, frozenset(CHANGE_TYPES), None, None, sse_format.encode_json)


def change(text: str, type_: Any = "insert") -> ChangeEvent:
    """A change with the same text wherever a writer can put one, spelled as PostgreSQL spells JSON."""
    spoilt = json.dumps({text: text, "id": [text]})
    return make_event("t", type_, row={"id": 1}).replace(
        schema=text, table=text, pk_json=spoilt, old_pk_json=json.dumps({text: 1}), row_json=spoilt,
        old_json=spoilt, changed_json=json.dumps([text]), cursor=CURSOR, actor_text=text,
    )  # fmt: skip


@quick
@given(nasty, st.sampled_from(CHANGE_TYPES))
def test_a_change_is_exactly_one_event_with_an_equal_payload(text: str, type_: Any) -> None:
    event = change(text, type_)
    frame = sse_format.encode_json(event, ALL)
    assert frame is not None
    client = EventSource().feed(frame)
    [(name, data, id_)] = client.events
    assert (name, id_, client.retry) == (type_, CURSOR, None)
    payload = json.loads(data)
    assert payload["row"] == payload["old"] == payload["pk"] == {text: text, "id": [text]}
    assert (payload["schema"], payload["table"], payload["changed"]) == (text, text, [text])


@quick
@given(nasty)
def test_the_message_format_is_one_unnamed_event(text: str) -> None:
    frame = sse_format.encode_message(change(text), ALL)
    assert frame is not None
    [(name, data, id_)] = EventSource().feed(frame).events
    assert (name, id_) == ("message", CURSOR)
    assert json.loads(data)["row"] == {text: text, "id": [text]}


@quick
@given(nasty.filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)))
def test_any_text_as_data_comes_out_with_its_lines(text: str) -> None:
    [(name, data, id_)] = EventSource().feed(sse_format.frame(text, event="insert", cursor="abcd~1:1:")).events
    assert (name, id_) == ("insert", "abcd~1:1:")
    assert data == text.replace("\r\n", "\n").replace("\r", "\n")


@quick
@given(nasty, st.sampled_from(["ready", "sync", "gap", "bye"]))
def test_a_control_event_is_one_event_too(text: str, name: Any) -> None:
    [(named, data, id_)] = EventSource().feed(sse_format.control(name, {"tables": [text]}, CURSOR)).events
    assert (named, json.loads(data), id_) == (name, {"tables": [text]}, CURSOR)


def test_frames_follow_each_other() -> None:
    frames = [sse_format.encode_json(change(f"{n}\r\n\r\nevent: delete\r\n"), ALL) or b"" for n in range(3)]
    stream = sse_format.COMMENT + sse_format.retry(2345) + b"".join(frames) + sse_format.control("bye", {})
    client = EventSource().feed(stream)
    assert [name for name, _, _ in client.events] == ["insert"] * 3 + ["bye"]
    assert client.retry == 2345
    assert client.last_event_id == CURSOR  # a bye has no id and takes none away


def test_without_data_there_would_be_no_event_so_there_always_is_data() -> None:
    assert sse_format.control("sync", {}, "abcd~1:1:") == b"id: abcd~1:1:\nevent: sync\ndata: {}\n\n"
    assert EventSource().feed(b"id: abcd~1:1:\nevent: sync\n\n").events == []  # what the rule is for


def test_a_json_column_with_line_ends_between_its_tokens_keeps_its_value() -> None:
    event = make_event("t").replace(row_json='{"id":1,"j":{"a":\r\n1,\r"b":\n2}}', cursor=CURSOR)
    frame = sse_format.encode_json(event, ALL)
    assert frame is not None
    [(_, data, _)] = EventSource().feed(frame).events
    assert json.loads(data)["row"] == {"id": 1, "j": {"a": 1, "b": 2}}


def test_an_update_that_shows_nothing_is_no_frame() -> None:
    event = make_event("t", "update", row={"id": 1, "x": 2}, old={"x": 1})
    narrow = View(
        event.table_name, frozenset(CHANGE_TYPES), frozenset({"id"}), frozenset({"id"}), sse_format.encode_json
    )
    assert sse_format.encode_json(event, narrow) is None
    assert sse_format.encode_message(event, narrow) is None


@pytest.mark.parametrize("cursor", ["abcd~10:20:2.4", CURSOR])
def test_the_id_is_a_cursor_that_comes_back_in_a_header(cursor: str) -> None:
    frame = sse_format.frame("{}", event="insert", cursor=cursor)
    assert str(Cursor.parse(EventSource().feed(frame).last_event_id)) == cursor


def test_an_id_that_no_server_would_take_back_is_one_that_says_so() -> None:
    """gunicorn answers 400 to a header of more than 8,190 bytes, however often the client comes back."""
    running = tuple(range(10_000, 2_000_000, 1000))
    cursor = str(Cursor("abcd", Snapshot(10_000, 2_000_000, running), Snapshot(10_000, 2_000_001, running), 7))
    last_event_id = EventSource().feed(sse_format.frame("{}", event="sync", cursor=cursor)).last_event_id
    assert len(last_event_id) < 100 < 8190 < len(cursor)
    assert (
        resume.gap_reason(last_event_id, resume.parse_cursor(last_event_id), Cursor.parse("abcd~5:5:"), []) == "cursor"
    )
