"""The WebSocket's language: commands of clients and frames of ours, read and written; pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from pgevents_push.errors import BadParameter, RequestError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent
from pgevents_push.hub import View
from pgevents_push.transports.change_json import change_json
from pgevents_push.transports.request import TableRequest, parse_columns, parse_types

MAX_REF_CHARACTERS = 64
_SUBSCRIBE_FIELDS = ("type", "ref", "table", "events", "columns", "since")
_LATER = ("filter", "snapshot")

ControlType = Literal["ready", "sync", "gap", "error", "pong"]


class Opcode(IntEnum):
    """The first byte of our frames: FIN set, no extension bit (RFC 6455, 5.2)."""

    TEXT = 0x81
    CLOSE = 0x88
    PING = 0x89


class CloseCode(IntEnum):
    """Why we close, beside the ends of a mailbox (closing.py). RFC 6455, 7.4; 4xxx are INTERFACE's own.

    401 and 403 of one subscription are an error message with its ref, and the socket stays: others on it
    may be allowed. 4401 and 4403 are for a whole connection that loses its rights after the handshake;
    before it, HTTP's own 401 and 403 say so.
    """

    GONE = 1001
    POLICY = 1008
    FAILED = 1011
    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403


@dataclass(frozen=True)
class Subscribe:
    """A client wants the changes of a table, marked with `ref`; `since` is where it was (None: it is new)."""

    ref: str
    table: TableRequest
    since: str | None


@dataclass(frozen=True)
class Unsubscribe:
    """A client has enough of the subscription `ref`."""

    ref: str


@dataclass(frozen=True)
class Ping:
    """A client wants a sign of life; browsers cannot send the protocol's own ping."""


@dataclass(frozen=True)
class Refusal:
    """A command that was understood and cannot be done; the socket stays open."""

    ref: str
    error: RequestError


Command = Subscribe | Unsubscribe | Ping | Refusal


class BadMessage(RequestError):
    """The message is not a JSON object with a "type" of subscribe, unsubscribe or ping."""


class NotSubscribed(RequestError):
    """No subscription of this connection has this ref."""

    status = 404
    title = "Not found"


class TooMany(RequestError):
    """This connection has as many subscriptions as it may have."""

    status = 429
    title = "Too many requests"


def parse(message: str | bytes) -> Command:
    """Read what a client sent.

    :raises BadMessage: no command, or one without a usable ref, so that no answer could be matched to it.
    """
    if isinstance(message, bytes):
        raise BadMessage("Binary messages mean nothing here: send JSON text.")
    fields = _object(message)
    kind = fields.get("type")
    if kind == "ping":
        return Ping()
    if kind not in ("subscribe", "unsubscribe"):
        raise BadMessage(f'type {kind!r:.80} is not one of "subscribe", "unsubscribe", "ping".')
    ref = fields.get("ref")
    if not isinstance(ref, str) or not 1 <= len(ref) <= MAX_REF_CHARACTERS:
        raise BadMessage(f"ref must be a text of 1 to {MAX_REF_CHARACTERS} characters.")
    if kind == "unsubscribe":
        return Unsubscribe(ref)
    try:
        return _subscribe(ref, fields)
    except RequestError as error:
        return Refusal(ref, error)


def _object(message: str) -> dict[str, Any]:
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):  # RecursionError: a few thousand "[" are enough
        raise BadMessage("The message is not JSON.") from None
    if not isinstance(fields, dict):
        raise BadMessage
    return fields


def _subscribe(ref: str, fields: dict[str, Any]) -> Subscribe:
    for name, value in fields.items():
        if name in _LATER and value:
            raise BadParameter(f"{name}: this version does not offer it.")
        if name not in _SUBSCRIBE_FIELDS + _LATER:
            raise BadParameter(f"{name!r:.80} is not a field of subscribe: {', '.join(_SUBSCRIBE_FIELDS)}.")
    table = _text(fields, "table")
    if not table:
        raise BadParameter("table is missing.")
    types = _listed(fields, "events", parse_types)
    columns = _listed(fields, "columns", parse_columns)
    request = TableRequest(table, frozenset(CHANGE_TYPES) if types is None else types, columns)
    return Subscribe(ref, request, _text(fields, "since"))


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadParameter(f"{name} must be a text, not {value!r:.80}.")
    return value or None


def _listed(fields: dict[str, Any], name: str, read: Callable[[list[object]], Any]) -> Any:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadParameter(f"{name} must be a list, not {value!r:.80}.")
    return read(value)


def origin_allowed(origin: str | None, own: str, allowed: tuple[str, ...]) -> bool:
    """Whether a page of this origin may open a socket. Browsers do not ask before they send cookies with it.

    :param origin: the Origin header; None for a client that is no browser.
    :param own: the scheme, host and port under which the client reached us.
    """
    return origin is None or (origin != "null" and origin in (own, *allowed))


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """Return one unmasked, unfragmented frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 0x10000:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; a control frame has room for 125 bytes, 2 of them the code."""
    text = reason.encode("ascii", "replace")[:123]
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + text)


PING_FRAME = frame(Opcode.PING, b"")


def control(kind: ControlType, **fields: object) -> bytes:
    """Return a message of ours. ASCII: a ref may hold a lone surrogate, which UTF-8 cannot."""
    return frame(Opcode.TEXT, json.dumps({"type": kind, **fields}, separators=(",", ":")).encode())


def error(ref: str | None, cause: RequestError) -> bytes:
    """Return the message that a command failed; its codes are HTTP's."""
    return control("error", ref=ref, code=cause.status, message=str(cause))


def encode_change(event: ChangeEvent, view: View) -> bytes | None:
    """Encode an event for a view whose label is the ref; None when it shows nothing of it."""
    text = change_json(event, view)
    if text is None:
        return None
    marks = f'{{"ref":{json.dumps(view.label)},"cursor":"{event.cursor}",'
    return frame(Opcode.TEXT, (marks + text[1:]).encode())
