"""Server-Sent Events as bytes (WHATWG HTML, "Interpretation of event streams"); pure. The only SSE encoder."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pgevents_push.event import ChangeEvent, ChangeType
from pgevents_push.hub import View
from pgevents_push.transports.change_json import change_json

ControlType = Literal["ready", "sync", "gap", "bye"]
_LINE_END = re.compile(r"\r\n|\r|\n")

# The first bytes: they make proxies pass the headers on and EventSource fire `open`.
COMMENT = b": pgevents_push\n\n"


def frame(data: str, *, event: ChangeType | ControlType | None = None, cursor: str | None = None) -> bytes:
    """Return one frame. No content can break out of it: data is split at every line end that SSE knows,
    event names are a closed set, and a cursor has no character that SSE or HTTP gives a meaning."""
    lines = [f"id: {cursor}"] if cursor else []
    if event:
        lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return ("\n".join(lines) + "\n\n").encode()


def control(event: ControlType, data: dict[str, Any], cursor: str | None = None) -> bytes:
    """Return a control frame. Firefox ignores an id without data, so there is always data."""
    return frame(json.dumps(data, separators=(",", ":")), event=event, cursor=cursor)


def retry(milliseconds: int) -> bytes:
    """Return the field that tells EventSource how long to wait before it reconnects."""
    return f"retry: {milliseconds}\n\n".encode()


def encode_json(event: ChangeEvent, view: View) -> bytes | None:
    """format=json: named events."""
    data = change_json(event, view)
    return None if data is None else frame(data, event=event.type, cursor=event.cursor)


def encode_message(event: ChangeEvent, view: View) -> bytes | None:
    """format=message: the same JSON as unnamed messages, for `onmessage`."""
    data = change_json(event, view)
    return None if data is None else frame(data, cursor=event.cursor)
