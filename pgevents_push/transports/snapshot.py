"""GET /pgevents/snapshot: the rows that there are now, and the cursor from which a stream goes on with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from flask import Request, Response

from pgevents_push.config import Config
from pgevents_push.errors import ConnectionLost, PGEventsError, RequestError, Unavailable
from pgevents_push.hub import Chunk, Hub, Subscription, View
from pgevents_push.transports import uncaptured
from pgevents_push.transports.change_json import rows_text
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.gate import Gate
from pgevents_push.transports.peer import give_up_when_stuck, socket_of
from pgevents_push.transports.places import Place
from pgevents_push.transports.request import parse_snapshot
from pgevents_push.transports.showing import RETRY_AFTER_SECONDS, Source, Take, frames, refusal
from pgevents_push.transports.sse_format import encode_json

MIMETYPE = "application/json"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

# How long the listener may take to begin, in a process that has just started.
BEGINNING_SECONDS = 5.0


def open_snapshot(
    request: Request, hub: Hub, take: Take, gate: Gate, config: Config, visit: Visit, release: Callable[[], None]
) -> Response:
    """Answer a request for the rows of a table.

    :param release: gives back what the request holds, above all the database connection of an app that looked up its
        user: the rows may be a while in coming.
    :raises RequestError: the answer is that error instead. Once rows are on their way, the connection breaks off.
    """
    table, limit = parse_snapshot(dict(request.args.lists()))
    visit.check(table)
    opened = gate.open(table, "snapshot", visit.identity)
    if request.method == "HEAD":
        visit.place.leave()
        return Response(mimetype=MIMETYPE, headers=HEADERS)
    release()
    view = opened.view(encode_json)
    _wait_until_captured(hub, view)
    if (sock := socket_of(request.environ)) is not None:
        give_up_when_stuck(sock)
    document = _document(Source(take, limit), view, config, visit.place)
    next(document)
    return Response(document, mimetype=MIMETYPE, headers=HEADERS)


def _wait_until_captured(hub: Hub, view: View) -> None:
    """Make sure that each change after the snapshot will be in the log: a stream is to go on from there."""
    mailbox = hub.connect(1)
    try:
        if hub.subscribe(mailbox, [view], BEGINNING_SECONDS) is None:
            raise uncaptured.refusal(view.table)
    finally:
        hub.disconnect(mailbox)


def _document(source: Source, view: View, config: Config, place: Place) -> Iterator[bytes]:
    """Yield nothing when the first rows are there, then the answer. (A generator that has begun is cleaned up also
    where a response that the app replaced is never closed.)

    :raises Unavailable: the rows cannot be read, or not now.
    :raises ConnectionLost: its caller was revoked meanwhile.
    """
    # Not one of the hub's: what has begun is sent to its end, also by a process that stops.
    mailbox = Subscription(config.max_queue_bytes)
    place.occupy(mailbox.close)
    shipment = source.read([view], _encode, mailbox)
    try:
        found = frames(shipment, mailbox, config.heartbeat_seconds)
        first = _first(found, config.snapshot_seconds)
        yield b""
        yield f'{{"cursor":"{shipment.cursor}","rows":['.encode() + first
        yield from filter(None, found)
        if mailbox.closed:
            raise ConnectionLost(f"the snapshot is not finished: {mailbox.closed}")
        yield b"]}\n"
    finally:
        shipment.close()
        place.leave()


def _encode(chunk: Chunk) -> bytes:
    return (("" if chunk.first else ",") + rows_text(chunk)).encode()


def _first(found: Iterator[bytes | None], seconds: float) -> bytes:
    deadline = time.monotonic() + seconds
    try:
        for first in found:
            if first is not None:
                return first
            if time.monotonic() > deadline:
                raise Unavailable("Too many want a snapshot at the moment.", retry_after=RETRY_AFTER_SECONDS)
    except RequestError:
        raise
    except PGEventsError as failure:
        raise refusal(failure) from None
    raise Unavailable("This connection was ended.", retry_after=RETRY_AFTER_SECONDS)
