"""Fragments: one partial makes a page's rows and its changes; nothing of a row breaks out of it or is silently lost."""

from __future__ import annotations

import logging
import re
from itertools import product
from typing import Any

import pytest
from flask import Flask
from jinja2 import DictLoader

from pgevents_push import PGEvents
from pgevents_push.errors import BadParameter, ExposureError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, Gap, TableName
from pgevents_push.hub import Chunk, View
from pgevents_push.transports.fragments import Fragment, FragmentEncoder, Fragments, Markup
from tests.fixtures.event_source import EventSource

ORDERS = TableName("public", "orders")
TEMPLATES = {
    "li.html": '<li id="orders-{{ row.id }}">{{ row.item }}</li>',
    "tr.html": '\n  <tr class="a"\n id="order_{{ pk.id }}"><td>{{ row.item }}</td></tr>\n',
    "card.html": '<section id="orders-{{ row.id }}">{{ user }} {{ url_for("one", id=row.id) }}</section>',
    "whose.html": '<li id="orders-{{ row.id }}">for {{ identity }}</li>',
    "told.html": '<li id="{{ dom_id }}">{{ row.item }}</li>',
    "no_id.html": "<li>{{ row.item }}</li>",
    "bare.html": "{{ row.item }}",
    "broken.html": "{{ row.item.nothing.at.all }}",
}


def app() -> Flask:
    made = Flask("shop")
    made.jinja_loader = DictLoader(TEMPLATES)
    made.add_url_rule("/one/<int:id>", "one", lambda id: "")
    made.context_processor(lambda: {"user": "nobody"})
    return made


APP = app()


def encoder(template: str = "li.html", markup: Markup = "html", **more: Any) -> FragmentEncoder:
    values = {"target": "#orders", "position": "beforeend", "dom_id": None, **more}
    identity = values.pop("identity", None)
    return FragmentEncoder(Fragment(ORDERS, template, **values), markup, APP, identity)


def view(encode: Any, columns: set[str] | None = None) -> View:
    shown = None if columns is None else frozenset(columns)
    return View(ORDERS, frozenset(CHANGE_TYPES), shown, shown, encode)


def change(type_: Any = "insert", item: str = '"a lamp"', **more: Any) -> ChangeEvent:
    values = {
        "id": "7", "type": type_, "schema": "public", "table": "orders", "tx": "9", "last": True,
        "at_text": "2026-01-01T00:00:00+00:00", "cursor": "abcd~9:9:", "pk_json": '{"id":1}',
        "row_json": None if type_ in ("delete", "truncate") else f'{{"id":1,"item":{item},"secret":"s3cret"}}',
        "changed_json": '["item"]' if type_ == "update" else "[]", **more,
    }  # fmt: skip
    return ChangeEvent(**values)


def html(encode: FragmentEncoder, event: ChangeEvent) -> str:
    """The markup of all messages of a change."""
    sent = encode(event, view(encode, {"id", "item"}))
    assert sent is not None
    return "\n".join(text for _, text, _ in EventSource().feed(sent).events)


@pytest.mark.parametrize(
    ("template", "type_", "markup", "expected"),
    [
        ("li.html", "insert", "html", '<ul hx-swap-oob="beforeend:#orders"><li id="orders-1">a lamp</li></ul>'),
        ("li.html", "update", "html", '<li hx-swap-oob="true" id="orders-1">a lamp</li>'),
        ("li.html", "delete", "html", '<div id="orders-1" hx-swap-oob="delete"></div>'),
        ("li.html", "truncate", "html", '<div hx-swap-oob="innerHTML:#orders"></div>'),
        (
            "li.html", "insert", "turbo",
            '<turbo-stream action="append" target="orders"><template><li id="orders-1">a lamp</li></template>'
            "</turbo-stream>",
        ),
        (
            "li.html", "update", "turbo",
            '<turbo-stream action="replace" target="orders-1"><template><li id="orders-1">a lamp</li></template>'
            "</turbo-stream>",
        ),
        ("li.html", "delete", "turbo", '<turbo-stream action="remove" target="orders-1"></turbo-stream>'),
        (
            "li.html", "truncate", "turbo",
            '<turbo-stream action="update" target="orders"><template></template></turbo-stream>',
        ),
    ],
)  # fmt: skip
def test_each_change_is_markup(template: str, type_: str, markup: Markup, expected: str) -> None:
    assert html(encoder(template, markup), change(type_)) == expected


def test_a_table_row_stands_in_a_table_body_and_keeps_its_lines() -> None:
    encode = encoder("tr.html", dom_id="order_{id}", position="afterbegin")
    expected = '<tr class="a"\n id="order_1"><td>a lamp</td></tr>'
    assert html(encode, change()) == f'<tbody hx-swap-oob="afterbegin:#orders">{expected}</tbody>'


def test_what_is_in_a_row_is_escaped_and_cannot_end_a_message() -> None:
    evil = r'"</li><script>alert(1)</script>\r\rdata: x\n\nevent: bye\u2028"'
    sent = encoder()(change(item=evil), view(None, {"id", "item"}))
    assert sent is not None
    [(name, text, _)] = EventSource().feed(sent).events
    assert name == "message"
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_hidden_columns_are_not_in_the_templates_hands() -> None:
    encode = FragmentEncoder(Fragment(ORDERS, "all.html", "#orders", "beforeend", None), "html", app())
    encode.app.jinja_loader.mapping["all.html"] = '<i id="orders-1">{{ row }}{{ change }}</i>'  # type: ignore[union-attr]
    assert "s3cret" not in html(encode, change())


def test_the_ids_of_simple_keys_and_of_those_without_a_hyphen_are_the_plain_ones() -> None:
    fragment = encoder().fragment
    assert fragment.id_of({"id": "a-b_c"}) == "orders-a-b_c"
    assert fragment.id_of({"id": -7}) == "orders--7"
    assert fragment.id_of({"a": 7, "b": "x_y", "c": ""}) == "orders-7-x_y-"


def test_two_keys_never_have_one_id() -> None:
    fragment = encoder().fragment
    values = ["".join(letters) for n in range(4) for letters in product("a-_", repeat=n)]
    for arity, some in ((2, values), (3, [value for value in values if len(value) < 3])):
        keys = list(product(some, repeat=arity))
        ids = {fragment.id_of(dict(zip("abc", key, strict=False))) for key in keys}
        assert len(ids) == len(keys)
        assert all(re.fullmatch(r"orders-[a_-]*", id_) for id_ in ids)  # valid in a selector as it is


def test_a_template_is_told_its_id() -> None:
    key = '{"id":"x-y","item":"z"}'
    assert '<li id="orders-x_-y-z">' in html(encoder("told.html"), change(pk_json=key))
    assert (
        html(encoder("told.html"), change("delete", pk_json=key))
        == '<div id="orders-x_-y-z" hx-swap-oob="delete"></div>'
    )


def test_a_row_whose_key_changed_is_another_element() -> None:
    event = change("update", pk_json='{"id":1}', old_pk_json='{"id":5}')
    sent = encoder()(event, view(None, {"id", "item"}))
    assert sent is not None
    (_, gone, first_id), (_, new, second_id) = EventSource().feed(sent).events
    assert gone == '<div id="orders-5" hx-swap-oob="delete"></div>'
    assert '<li id="orders-1">' in new
    # Cut in between, a client comes back and gets both again.
    assert (first_id, second_id) == ("", "abcd~9:9:")


@pytest.mark.parametrize("template", ["no_id.html", "bare.html", "broken.html", "missing.html"])
def test_a_template_that_fails_is_a_gap_and_a_line_in_the_log(template: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        sent = encoder(template)(change(), view(None))
    assert sent is not None
    [frame] = EventSource().feed(sent).events
    assert frame == ("gap", '{"reason":"failed"}', "abcd~9:9:")
    assert "event 7" in caplog.text
    assert template in caplog.text


def test_a_row_that_is_too_large_and_a_gap_say_reload() -> None:
    sent = encoder()(change(row_json=None, truncated=True), view(None))
    assert sent is not None
    assert b'event: gap\ndata: {"reason":"overflow"}' in sent
    assert b'"schema"' in (encoder()(Gap("schema", "abcd~9:9:"), view(None)) or b"")


def test_an_update_that_shows_nothing_is_nothing() -> None:
    assert encoder()(change("update", changed_json='["secret"]'), view(None, {"id", "item"})) is None


def test_it_is_rendered_in_a_request_of_nobody() -> None:
    assert "nobody /one/1" in html(encoder("card.html"), change())


def test_selectors_and_keys_are_attributes() -> None:
    encode = encoder(target='ul[data-x="1"]')
    assert 'hx-swap-oob="beforeend:ul[data-x=&quot;1&quot;]"' in html(encode, change())
    assert 'targets="ul[data-x=&quot;1&quot;]"' in html(encoder(markup="turbo", target='ul[data-x="1"]'), change())
    gone = change("delete", pk_json='{"id":"\\"><script>"}')
    assert "<script" not in html(encoder(), gone)


def test_equal_encoders_share_what_they_made() -> None:
    assert encoder() == encoder()
    assert hash(encoder()) == hash(encoder())
    assert encoder() != encoder(markup="turbo")


def test_a_table_without_a_fragment_is_named() -> None:
    with pytest.raises(BadParameter, match=r"public\.orders has no fragment"):
        Fragments(APP, []).encoder("html", ORDERS, None)


def test_who_sees_it_counts_only_where_that_was_asked_for() -> None:
    fragments = {
        per: Fragments(APP, [Fragment(ORDERS, "whose.html", "#orders", "beforeend", None, per)])
        for per in (True, False)
    }
    ann, bob = (fragments[True].encoder("html", ORDERS, name) for name in ("ann", "<b>ob"))
    assert ann != bob
    assert ann == fragments[True].encoder("html", ORDERS, "ann")
    assert "for ann" in html(ann, change())
    assert "for &lt;b&gt;ob" in html(bob, change())
    assert fragments[False].encoder("html", ORDERS, "ann") == fragments[False].encoder("html", ORDERS, "bob")
    assert "for None" in html(fragments[False].encoder("html", ORDERS, "ann"), change())


def test_mistakes_are_said_at_once() -> None:
    events = PGEvents()
    with pytest.raises(ExposureError, match="position="):
        events.fragment("orders", template="x.html", target="#x", position="inside")  # type: ignore[arg-type]
    with pytest.raises(ExposureError, match="template="):
        events.fragment("orders", template="x.html", target="")
    events.fragment("orders", template="x.html", target="#x")
    with pytest.raises(ExposureError, match="one already"):
        events.fragment("public.orders", template="y.html", target="#y")


@pytest.mark.parametrize(
    ("template", "options", "told"),
    [
        ("_order.html", {}, False),
        ("_order.jinja", {}, True),
        ("_order.jinja", {"autoescape": True}, False),
        ("_order.html", {"autoescape": False}, True),
    ],
)
def test_a_template_that_is_not_escaped_is_told(
    template: str, options: dict[str, Any], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Flask("shop")
    shop.jinja_options = options
    Fragments(shop, [Fragment(ORDERS, template, "#orders", "beforeend", None)])
    assert caplog.text.count(f"Flask does not escape what is in {template}") == told


# --- Rows of a snapshot


def rows(*texts: str, first: bool = True) -> Chunk:
    return Chunk(ORDERS, texts, first, last=True)


LAMP = '{"pk":{"id":9007199254740993},"row":{"id":9007199254740993,"item":"a <lamp>"}}'


def test_rows_of_a_snapshot_fill_an_element_that_is_emptied_first() -> None:
    assert EventSource().feed(encoder().rows(rows(LAMP))).events == [
        ("message", '<div hx-swap-oob="innerHTML:#orders"></div>', "snapshot"),
        (
            "message",
            '<ul hx-swap-oob="beforeend:#orders"><li id="orders-9007199254740993">a &lt;lamp&gt;</li></ul>',
            "snapshot",
        ),
    ]


def test_later_rows_are_added() -> None:
    events = EventSource().feed(encoder(markup="turbo").rows(rows(LAMP, LAMP, first=False))).events
    assert [text.startswith('<turbo-stream action="append" target="orders">') for _, text, _ in events] == [True] * 2


@pytest.mark.parametrize(
    ("template", "row", "reason"),
    [("broken.html", LAMP, "failed"), ("li.html", '{"pk":{"id":1},"row":null,"truncated":true}', "overflow")],
)
def test_rows_that_cannot_be_shown_are_one_gap(
    template: str, row: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = EventSource().feed(encoder(template).rows(rows(row, row, first=False))).events
    assert events == [("gap", f'{{"reason":"{reason}"}}', "snapshot")]
    assert caplog.text.count("Traceback") == (reason == "failed")
    assert "lamp" not in caplog.text


def test_half_a_surrogate_pair_in_a_row_keeps_no_other_row_from_being_shown(caplog: pytest.LogCaptureFixture) -> None:
    half = r'{"pk":{"id":1},"row":{"id":1,"item":"\ud800"}}'  # a column of type json may hold that
    first, second, gap = EventSource().feed(encoder().rows(rows(LAMP, half, LAMP, first=False))).events
    assert first == second
    assert "&lt;lamp&gt;" in first[1]
    assert gap == ("gap", '{"reason":"failed"}', "snapshot")
    assert caplog.text.count("Traceback") == 1
