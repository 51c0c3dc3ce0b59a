"""Server-Sent Events as bytes (WHATWG HTML, "Interpretation of event streams"); pure. The only SSE encoder."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pgevents_push.cursor import for_client
from pgevents_push.event import ChangeEvent, EventType, Gap
from pgevents_push.hub import Chunk, View
from pgevents_push.transports.change_json import change_json, rows_json
from pgevents_push.transports.resume import UNFINISHED

ControlType = Literal["ready", "snapshot", "sync", "gap", "bye"]
_LINE_END = re.compile(r"\r\n|\r|\n")

# The first bytes: they make proxies pass the headers on and EventSource fire `open`.
COMMENT = b": pgevents_push\n\n"


def frame(data: str, *, event: EventType | ControlType | None = None, cursor: str | None = None) -> bytes:
    """Return one frame. No content can break out of it: data is split at every line end that SSE knows,
    event names are a closed set, and a cursor has no character that SSE or HTTP gives a meaning."""
    marks = f"id: {for_client(cursor)}\n" if cursor else ""
    if event:
        marks += f"event: {event}\n"
    # JSON of PostgreSQL has no line ends, unless a value of type json has them: to look for one is ten times cheaper.
    if "\n" in data or "\r" in data:
        data = "\ndata: ".join(_LINE_END.split(data))
    return f"{marks}data: {data}\n\n".encode()


def control(event: ControlType, data: dict[str, Any], cursor: str | None = None) -> bytes:
    """Return a control frame. Firefox ignores an id without data, so there is always data."""
    return frame(json.dumps(data, separators=(",", ":")), event=event, cursor=cursor)


def retry(milliseconds: int) -> bytes:
    """Return the field that tells EventSource how long to wait before it reconnects."""
    return f"retry: {milliseconds}\n\n".encode()


def gap(found: Gap) -> bytes:
    """Tell that continuity cannot be proven from here on."""
    return control("gap", {"reason": found.reason}, found.cursor)


def encode_json(event: ChangeEvent | Gap, view: View) -> bytes | None:
    """format=json: named events."""
    if isinstance(event, Gap):
        return gap(event)
    data = change_json(event, view)
    return None if data is None else frame(data, event=event.type, cursor=event.cursor)


def encode_message(event: ChangeEvent | Gap, view: View) -> bytes | None:
    """format=message: the same JSON as unnamed messages, for `onmessage`."""
    if isinstance(event, Gap):
        return gap(event)
    data = change_json(event, view)
    return None if data is None else frame(data, cursor=event.cursor)


def encode_rows(chunk: Chunk) -> bytes:
    """A part of a snapshot."""
    return frame(rows_json(chunk), event="snapshot", cursor=UNFINISHED)
