"""The WebSocket's language: frames against parsers that are not ours, commands against anything at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, TextMessage
from wsproto.events import Ping as PingEvent

from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import View
from pgevents_push.transports import ws_protocol as protocol
from pgevents_push.transports.ws_protocol import BadMessage, Opcode, Ping, Refusal, Subscribe, Unsubscribe


def received(data: bytes) -> list[Any]:
    """What wsproto's client side understands."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return list(client.events())


def by_hand(data: bytes) -> tuple[int, bytes, bytes]:
    """Parse one frame as RFC 6455, 5.2 draws it: (first byte, payload, what follows)."""
    size, at = data[1], 2
    assert size < 128, "a server must not mask"
    if size == 126:
        size, at = (data[2] << 8) + data[3], 4
        assert size > 125, "not the shortest form"
    elif size == 127:
        size, at = int(data[2:10].hex(), 16), 10
        assert size > 65535, "not the shortest form"
    return data[0], data[at : at + size], data[at + size :]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537, 4_000_000])
def test_a_frame_of_each_length_is_read_back_by_two_parsers(size: int) -> None:
    data = protocol.frame(Opcode.TEXT, b"x" * size)
    assert by_hand(data) == (0x81, b"x" * size, b"")
    texts = received(data)
    assert "".join(event.data for event in texts) == "x" * size
    assert texts[-1].message_finished


@given(st.lists(st.text(max_size=300), max_size=10))
def test_frames_stand_one_behind_the_other(texts: list[str]) -> None:
    data = b"".join(protocol.frame(Opcode.TEXT, text.encode("utf-8", "replace")) for text in texts)
    for text in texts:
        first, payload, data = by_hand(data)
        assert (first, payload) == (0x81, text.encode("utf-8", "replace"))
    assert data == b""


def test_close_frames_carry_the_code_and_a_reason_that_fits() -> None:
    (event,) = received(protocol.close_frame(4408, "slow"))
    assert isinstance(event, CloseConnection)
    assert (event.code, event.reason) == (4408, "slow")
    (long,) = received(protocol.close_frame(1012, "é" * 500))
    assert isinstance(long, CloseConnection)
    assert len(long.reason or "") == 123


def test_the_ping_is_a_ping() -> None:
    (event,) = received(protocol.PING_FRAME)
    assert isinstance(event, PingEvent)


def an_event(**changes: Any) -> ChangeEvent:
    values: dict[str, Any] = {
        "id": "7", "type": "insert", "schema": "public", "table": "Café", "tx": "9", "last": True,
        "at_text": "2026-11-23T14:00:00+00:00", "cursor": "abcd~1:2:", "pk_json": '{"id":1}',
        "row_json": '{"id":1,"note":"ü\\u0000\\"","secret":"s"}',
    }  # fmt: skip
    return ChangeEvent(**{**values, **changes})


def a_view(ref: str = "1", columns: frozenset[str] | None = frozenset({"id", "note"})) -> View:
    table = TableName("public", "Café")
    return View(table, frozenset(CHANGE_TYPES), columns, columns, protocol.encode_change, ref)


@pytest.mark.parametrize("ref", ["1", 'a"b\\', "é☃", "\ud800", "\n"])
def test_a_change_carries_ref_and_cursor_and_no_hidden_column(ref: str) -> None:
    data = protocol.encode_change(an_event(), a_view(ref))
    assert data is not None
    (event,) = received(data)
    assert isinstance(event, TextMessage)
    change = json.loads(event.data)
    assert (change["ref"], change["cursor"], change["type"], change["id"]) == (ref, "abcd~1:2:", "insert", "7")
    assert change["row"] == {"id": 1, "note": 'ü\0"'}


def test_an_update_of_hidden_columns_makes_no_frame() -> None:
    event = an_event(type="update", changed_json='["secret"]', old_json='{"secret":"t"}')
    assert protocol.encode_change(event, a_view()) is None


def test_commands() -> None:
    assert protocol.parse('{"type":"ping"}') == Ping()
    assert protocol.parse('{"type":"unsubscribe","ref":"a"}') == Unsubscribe("a")
    plain = protocol.parse('{"type":"subscribe","ref":"1","table":"orders"}')
    assert isinstance(plain, Subscribe)
    assert (plain.table.table, plain.table.types, plain.table.columns) == ("orders", frozenset(CHANGE_TYPES), None)
    full = protocol.parse(
        '{"type":"subscribe","ref":"1","table":"a.b","events":["insert"],"columns":["id"],"since":"c",'
        '"filter":"","snapshot":false}'
    )
    assert isinstance(full, Subscribe)
    assert (full.table.types, full.table.columns, full.since) == (frozenset({"insert"}), frozenset({"id"}), "c")
    assert (full.snapshot, full.limit) == (False, None)
    shown = protocol.parse('{"type":"subscribe","ref":"1","table":"t","snapshot":true,"limit":20}')
    assert isinstance(shown, Subscribe)
    assert (shown.snapshot, shown.limit) == (True, 20)


@pytest.mark.parametrize(
    "message",
    ["", "x", "[]", "1", "null", '"ping"', "{}", '{"type":"open"}', '{"type":["ping"]}', b"{}", b"", "[" * 60_000,
     '{"type":"subscribe","table":"t"}', '{"type":"subscribe","ref":"","table":"t"}', "1" * 60_000,
     '{"type":"subscribe","ref":1,"table":"t"}', '{"type":"unsubscribe","ref":"' + "r" * 65 + '"}'],
)  # fmt: skip
def test_what_is_no_command_is_refused(message: str | bytes) -> None:
    with pytest.raises(BadMessage):
        protocol.parse(message)


@pytest.mark.parametrize(
    ("fields", "named"),
    [({}, "table"), ({"table": 5}, "table"), ({"table": ""}, "table"), ({"table": "t", "events": []}, "events"),
     ({"table": "t", "events": ["truncated"]}, "truncated"), ({"table": "t", "events": "insert"}, "events"),
     ({"table": "t", "events": [[]]}, "events"), ({"table": "t", "columns": {}}, "columns"),
     ({"table": "t", "columns": [1]}, "columns"), ({"table": "t", "colums": ["a"]}, "colums"),
     ({"table": "t", "filter": ["a=eq.1", 5]}, "filter"), ({"table": "t", "snapshot": "yes"}, "snapshot"),
     ({"table": "t", "limit": 5}, "limit"), ({"table": "t", "snapshot": True, "limit": True}, "limit"),
     ({"table": "t", "snapshot": True, "limit": 2.5}, "limit"), ({"table": "t", "snapshot": True, "limit": 0}, "limit"),
     ({"table": "t", "since": 5}, "since")],
)  # fmt: skip
def test_a_subscription_that_cannot_be_is_refused_by_its_ref(fields: dict[str, Any], named: str) -> None:
    refused = protocol.parse(json.dumps({"type": "subscribe", "ref": "r", **fields}))
    assert isinstance(refused, Refusal)
    assert refused.ref == "r"
    assert refused.error.status == 400
    assert named in str(refused.error)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
field_names = st.sampled_from(["type", "ref", "table", "events", "columns", "since", "filter", "snapshot", "x"])
kinds = st.sampled_from(["subscribe", "unsubscribe", "ping"])


@given(st.dictionaries(field_names, json_values), kinds | json_values)
@example({"ref": "\ud800", "events": ["insert", None]}, "subscribe")
def test_no_object_can_break_the_parser(fields: dict[str, Any], kind: Any) -> None:
    message = json.dumps({**fields, "type": kind})
    try:
        command: object = protocol.parse(message)
    except BadMessage as bad:
        command = bad
    if isinstance(command, Refusal):
        (answer,) = received(protocol.error(command.ref, command.error))
        assert json.loads(answer.data)["ref"] == fields["ref"]
    if isinstance(command, BadMessage):
        (answer,) = received(protocol.error(None, command))
        assert json.loads(answer.data)["code"] == 400


@given(st.text() | st.binary())
def test_no_text_can_break_the_parser(message: str | bytes) -> None:
    try:
        protocol.parse(message)
    except BadMessage:
        pass
