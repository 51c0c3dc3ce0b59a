"""The WebSocket's language: commands of clients and frames of ours, read and written; pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from pgevents_push.errors import BadParameter, RequestError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, Gap
from pgevents_push.hub import Chunk, CloseReason, View
from pgevents_push.transports.change_json import change_json, rows_json
from pgevents_push.transports.closing import CLOSINGS
from pgevents_push.transports.request import TableRequest, parse_columns, parse_limit, parse_types
from pgevents_push.transports.resume import UNFINISHED

MAX_REF_CHARACTERS = 64
WRITE_BYTES = 64 * 1024  # frames up to this size are joined into one write
_SUBSCRIBE_FIELDS = ("type", "ref", "table", "events", "columns", "filter", "snapshot", "limit", "since")

ControlType = Literal["ready", "snapshot", "sync", "gap", "error", "pong"]


class Opcode(IntEnum):
    """The first byte of our frames: FIN set, no extension bit (RFC 6455, 5.2)."""

    TEXT = 0x81
    CLOSE = 0x88
    PING = 0x89


class CloseCode(IntEnum):
    """Why we close, beside the ends of a mailbox (closing.py). RFC 6455, 7.4; 4xxx are INTERFACE's own.

    401 and 403 of one subscription are an error message with its ref, and the socket stays: others on it
    may be allowed. Before the handshake HTTP's own 401, 403, 429 and 503 say so.
    """

    GONE = 1001
    POLICY = 1008
    FAILED = 1011
    BAD_MESSAGE = 4400


@dataclass(frozen=True)
class Subscribe:
    """A client wants the changes of a table, marked with `ref`; `since` is where it was (None: it is new). With
    `snapshot` it wants to see the rows first, at most `limit` (None: all)."""

    ref: str
    table: TableRequest
    since: str | None
    snapshot: bool = False
    limit: int | None = None


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
    for name in fields:
        if name not in _SUBSCRIBE_FIELDS:
            raise BadParameter(f"{name!r:.80} is not a field of subscribe: {', '.join(_SUBSCRIBE_FIELDS)}.")
    table = _text(fields, "table")
    if not table:
        raise BadParameter("table is missing.")
    types = _listed(fields, "events", parse_types)
    columns = _listed(fields, "columns", parse_columns)
    request = TableRequest(table, frozenset(CHANGE_TYPES) if types is None else types, columns, _filters(fields))
    snapshot, limit = fields.get("snapshot"), fields.get("limit")
    if snapshot not in (None, False, True):
        raise BadParameter(f"snapshot must be true or false, not {snapshot!r:.80}.")
    if limit is not None and not snapshot:
        raise BadParameter('limit: it is for the rows of a snapshot: "snapshot": true')
    most = None if limit is None else parse_limit(limit)
    return Subscribe(ref, request, _text(fields, "since"), bool(snapshot), most)


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadParameter(f"{name} must be a text, not {value!r:.80}.")
    return value or None


def _filters(fields: dict[str, Any]) -> tuple[str, ...]:
    """One filter, or a list of them."""
    value = fields.get("filter")
    texts = [value] if isinstance(value, str) else ([] if value is None else value)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadParameter(f"filter must be a text or a list of texts, not {value!r:.80}.")
    return tuple(text for text in texts if text)


def _listed(fields: dict[str, Any], name: str, read: Callable[[list[object]], Any]) -> Any:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadParameter(f"{name} must be a list, not {value!r:.80}.")
    return read(value)


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


@dataclass(frozen=True)
class FramedMessages:
    """What a WebSocket that was handed over speaks, see Wire: its frames are made as they go over it."""

    def wrap(self, data: bytes) -> bytes:
        """See Wire.wrap."""
        return data

    def beat(self, cursor: str | None) -> bytes:
        """See Wire.beat. The ping keeps proxies from closing."""
        return PING_FRAME if cursor is None else control("sync", cursor=cursor)

    def goodbye(self, frames: bytes, reason: CloseReason, retry: int) -> bytes:
        """See Wire.goodbye."""
        return frames + close_frame(CLOSINGS[reason].code, CLOSINGS[reason].reason)


def control(kind: ControlType, **fields: object) -> bytes:
    """Return a message of ours. ASCII: a ref may hold a lone surrogate, which UTF-8 cannot."""
    return frame(Opcode.TEXT, json.dumps({"type": kind, **fields}, separators=(",", ":")).encode())


def error(ref: str | None, cause: RequestError) -> bytes:
    """Return the message that a command failed; its codes are HTTP's."""
    return control("error", ref=ref, code=cause.status, message=str(cause))


def encode_change(event: ChangeEvent | Gap, view: View) -> bytes | None:
    """Encode an event or a gap for a view whose label is the ref; None when it shows nothing of it."""
    if isinstance(event, Gap):
        return encode_gap(event, view.label)
    text = change_json(event, view)
    if text is None:
        return None
    marks = f'{{"ref":{json.dumps(view.label)},"cursor":"{event.cursor}",'
    return frame(Opcode.TEXT, (marks + text[1:]).encode())


def encode_gap(gap: Gap, ref: str) -> bytes:
    """Tell that the continuity of a subscription cannot be proven from here on."""
    return control("gap", ref=ref, cursor=gap.cursor, reason=gap.reason)


def encode_rows(chunk: Chunk, ref: str) -> bytes:
    """Encode a part of a snapshot."""
    marks = f'{{"type":"snapshot","ref":{json.dumps(ref)},"cursor":"{UNFINISHED}",'
    return frame(Opcode.TEXT, (marks + rows_json(chunk)[1:]).encode())


def joined(frames: Iterable[bytes], most: int = WRITE_BYTES) -> Iterator[bytes]:
    """Join small frames; a large one goes alone, so that nobody copies megabytes for each client."""
    batch: list[bytes] = []
    size = 0
    for frame in frames:
        if batch and size + len(frame) > most:
            yield batch[0] if len(batch) == 1 else b"".join(batch)
            batch, size = [], 0
        batch.append(frame)
        size += len(frame)
    if batch:
        yield batch[0] if len(batch) == 1 else b"".join(batch)
