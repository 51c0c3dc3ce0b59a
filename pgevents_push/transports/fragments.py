"""Fragments: a change as server-rendered HTML, made with the partial that the page itself is made with.

`format=html` is markup that htmx swaps by itself (hx-swap-oob), the same for its versions 2 and 4; `format=turbo` are
Turbo's <turbo-stream> elements. A fragment is rendered once for each change and view, not for each client: in a
request of nobody, so that `url_for` works and nobody's session gets into what all see. With `per_identity` it is
rendered once for each caller that `identify` tells apart.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from typing import Any, Literal

from flask import Flask, render_template

from pgevents_push import waiting
from pgevents_push.errors import BadParameter, ExposureError, FragmentError
from pgevents_push.event import ChangeEvent, Gap, GapReason, TableName, decode
from pgevents_push.hub import Chunk, View
from pgevents_push.transports import sse_format
from pgevents_push.transports.change_json import change_json, rows_text
from pgevents_push.transports.resume import UNFINISHED

log = logging.getLogger(__name__)

Position = Literal["beforeend", "afterbegin"]
Markup = Literal["html", "turbo"]

# What an element of a list has to stand in, to be parsed as itself.
_PARENTS = {"li": "ul", "tr": "tbody", "td": "tr", "th": "tr", "option": "select", "dt": "dl", "dd": "dl"}
_TURBO_ACTIONS: dict[Position, str] = {"beforeend": "append", "afterbegin": "prepend"}
_UNESCAPED = (
    "fragment(%s): Flask does not escape what is in %s, so that whoever can write a row can put markup into pages. "
    "A name that ends with .html is escaped."
)
_ONE_ID = re.compile(r"#[A-Za-z][\w-]*")


def _distinct(values: list[str]) -> list[str]:
    """Spell the values of a key so that no other key gives the same when they are joined with hyphens. Only where one
    of several has a hyphen itself: so there are more hyphens than in any key without, which stays as plain as it looks.
    The underscore is what an id in a CSS selector takes as it is."""
    if len(values) == 1 or not any("-" in value for value in values):
        return values
    return [value.replace("_", "__").replace("-", "_-") for value in values]


@dataclass(frozen=True)
class Fragment:
    """How rows of a table become elements of a page.

    :param template: the partial, which gets `row`, `pk`, `change`, `identity` and `dom_id`, the id of its root element.
    :param target: the CSS selector of the element that holds the rows.
    :param position: where new rows go in it.
    :param dom_id: the id of a row's element, as a format string of key columns: "order-{id}".
    :param per_identity: it depends on who sees it, so `identity` is not None in it.
    """

    table: TableName
    template: str
    target: str
    position: Position
    dom_id: str | None
    per_identity: bool = False

    def __post_init__(self) -> None:
        if self.position not in _TURBO_ACTIONS:
            known = ", ".join(_TURBO_ACTIONS)
            raise ExposureError(f"fragment({self.table}): position= is one of {known}, not {self.position!r}.")
        if not self.template or not self.target.strip():
            raise ExposureError(f'fragment({self.table}): give template="_order.html" and target="#orders".')

    def id_of(self, pk: Mapping[str, Any]) -> str:
        """Return the id of a row's element; by default the table and the key: `orders-7`, `lines-7-A`, `lines-7-A_-B`.

        :raises FragmentError: `dom_id` names what is not in the visible key, or there is no key.
        """
        if not pk:
            raise FragmentError(f"{self.table} has no visible key, so its elements have no ids.")
        if self.dom_id is None:
            return "-".join([self.table.name, *_distinct([str(value) for value in pk.values()])])
        try:
            return self.dom_id.format(**pk)
        except (KeyError, IndexError) as error:
            raise FragmentError(f"dom_id={self.dom_id!r} names {error}, which is not in the visible key.") from None


@dataclass(frozen=True)
class FragmentEncoder:
    """Makes the frames of one fragment; equal ones share what they made."""

    fragment: Fragment
    markup: Markup
    app: Flask
    identity: str | None = None

    def __call__(self, event: ChangeEvent | Gap, view: View) -> bytes | None:
        """A template that fails must not be silent, nor end the stream, which would come back to the same change."""
        if isinstance(event, Gap):
            return sse_format.gap(event)
        text = change_json(event, view)
        if text is None:
            return None
        if event.truncated:
            return sse_format.gap(Gap("overflow", event.cursor))
        try:
            return self._frames(decode(text), event.cursor)
        except Exception:  # whatever a template may raise
            log.exception("event %s of %s: the template %s failed", event.id, view.table, self.fragment.template)
            return sse_format.gap(Gap("failed", event.cursor))

    def _frames(self, change: dict[str, Any], cursor: str) -> bytes:
        """A row whose key changed is another element. That is two messages, because a <tr> behind a <div> is no row to
        an HTML parser; only the last one moves the client's position, so that it never misses half of it."""
        make = _OOB if self.markup == "html" else _TURBO
        if not change.get("old_pk"):
            return sse_format.frame(make[change["type"]](self, change), cursor=cursor)
        gone = sse_format.frame(make["delete"](self, change))
        return gone + sse_format.frame(make["insert"](self, change), cursor=cursor)

    def rows(self, chunk: Chunk) -> bytes:
        """Make the frames of rows of a snapshot: the page's element is emptied, then each row is put in as a new one.
        Instead of those that cannot be shown there is one gap."""
        make = _OOB if self.markup == "html" else _TURBO
        frames = [_shown(make["truncate"](self, {}))] if chunk.first else []
        gap: GapReason | None = None
        for row in decode(f"[{rows_text(chunk)}]"):
            waiting.sleep(0)  # a template takes a fraction of a millisecond, but there are hundreds of rows
            if row.get("truncated"):
                gap = gap or "overflow"
                continue
            try:
                frames.append(_shown(make["insert"](self, _as_insert(row, chunk.table))))
            except Exception:  # whatever a template may raise, or half a surrogate pair, which a json column may hold
                if gap != "failed":
                    log.exception("a row of %s: the template %s failed", chunk.table, self.fragment.template)
                gap = "failed"
        return b"".join(frames) + (sse_format.gap(Gap(gap, UNFINISHED)) if gap else b"")

    def render(self, change: dict[str, Any]) -> Element:
        """Render the partial.

        :raises FragmentError: it is not one element with the row's id.
        """
        wanted = self.fragment.id_of(change["pk"])
        with self.app.test_request_context():
            known = {"row": change["row"], "pk": change["pk"], "change": change, "identity": self.identity}
            html = render_template(self.fragment.template, **known, dom_id=wanted)
        element = Element(html.strip())
        if element.id != wanted:
            cure = 'Write id="{{ dom_id }}", or give fragment() a dom_id= of your own.'
            raise FragmentError(f"The root element must have id={wanted!r}, not {element.id!r}. {cure}")
        return element

    def old_id(self, change: dict[str, Any]) -> str:
        return escape(self.fragment.id_of(change.get("old_pk") or change["pk"]))

    @property
    def turbo_target(self) -> str:
        """Turbo names one element by its id, several by a selector."""
        target = self.fragment.target
        return f'target="{target[1:]}"' if _ONE_ID.fullmatch(target) else f'targets="{escape(target)}"'


def _shown(html: str) -> bytes:
    return sse_format.frame(html, cursor=UNFINISHED)


def _as_insert(row: dict[str, Any], table: TableName) -> dict[str, Any]:
    """Give a template the same names for a row of a snapshot as for a change."""
    return {"type": "insert", "schema": table.schema, "table": table.name, "old": None, "changed": [], **row}


def _escapes(app: Flask, template: str) -> bool:
    """Whether Jinja escapes what a template shows. Flask tells by the name's end, and knows no `.jinja`."""
    chosen = app.jinja_options.get("autoescape", app.select_jinja_autoescape)
    return bool(chosen(template) if callable(chosen) else chosen)


class Fragments:
    """The fragments of one app.

    :param app: renders their templates.
    """

    def __init__(self, app: Flask, declared: Iterable[Fragment]) -> None:
        self._app = app
        self._declared = {fragment.table: fragment for fragment in declared}
        for fragment in self._declared.values():
            if not _escapes(app, fragment.template):
                log.warning(_UNESCAPED, fragment.table, fragment.template)

    def encoder(self, markup: Markup, table: TableName, identity: str | None) -> FragmentEncoder:
        """Return what makes the frames of a table.

        :param identity: who will see them.
        :raises BadParameter: it has no fragment.
        """
        if table not in self._declared:
            raise BadParameter(f"format: {table} has no fragment, so there is no {markup} of it: see fragment().")
        fragment = self._declared[table]
        return FragmentEncoder(fragment, markup, self._app, identity if fragment.per_identity else None)


class Element(HTMLParser):
    """The root element of rendered HTML: its tag, its id, and a place for one more attribute."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tag = html, ""
        self.id: str | None = None
        self.feed(html)
        if not self.tag or not html.startswith(f"<{self.tag}"):
            raise FragmentError("The template must begin with its one root element.")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self.tag:
            self.tag, self.id = (self.get_starttag_text() or "")[1 : 1 + len(tag)], dict(attrs).get("id")

    def with_attribute(self, text: str) -> str:
        at = 1 + len(self.tag)
        return f"{self.html[:at]} {text}{self.html[at:]}"


def _oob_insert(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    element, fragment = encoder.render(change), encoder.fragment
    parent = _PARENTS.get(element.tag.lower(), "div")
    return f'<{parent} hx-swap-oob="{fragment.position}:{escape(fragment.target)}">{element.html}</{parent}>'


def _oob_update(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    return encoder.render(change).with_attribute('hx-swap-oob="true"')


def _oob_delete(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    return f'<div id="{encoder.old_id(change)}" hx-swap-oob="delete"></div>'


def _oob_truncate(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    return f'<div hx-swap-oob="innerHTML:{escape(encoder.fragment.target)}"></div>'


def _turbo_insert(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    action, html = _TURBO_ACTIONS[encoder.fragment.position], encoder.render(change).html
    return f'<turbo-stream action="{action}" {encoder.turbo_target}><template>{html}</template></turbo-stream>'


def _turbo_update(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    html, place = encoder.render(change).html, encoder.old_id(change)
    return f'<turbo-stream action="replace" target="{place}"><template>{html}</template></turbo-stream>'


def _turbo_delete(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    return f'<turbo-stream action="remove" target="{encoder.old_id(change)}"></turbo-stream>'


def _turbo_truncate(encoder: FragmentEncoder, change: dict[str, Any]) -> str:
    return f'<turbo-stream action="update" {encoder.turbo_target}><template></template></turbo-stream>'


_OOB = {"insert": _oob_insert, "update": _oob_update, "delete": _oob_delete, "truncate": _oob_truncate}
_TURBO = {"insert": _turbo_insert, "update": _turbo_update, "delete": _turbo_delete, "truncate": _turbo_truncate}
