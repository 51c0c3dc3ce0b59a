"""GET /pgevents/stream: a mailbox as Server-Sent Events, with heartbeat and a clean end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flask import Request, Response

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.cursor import Cursor
from pgevents_push.errors import BadParameter, ConnectionLost, CursorError, NotAcceptable
from pgevents_push.event import ChangeEvent
from pgevents_push.hub import Hub, Recall, Subscription, View
from pgevents_push.transports import resume, sse_format
from pgevents_push.transports.closing import CLOSINGS, as_number, jittered_milliseconds
from pgevents_push.transports.gate import Gate
from pgevents_push.transports.peer import give_up_when_stuck, socket_of
from pgevents_push.transports.request import Format, StreamRequest, parse_stream

MIMETYPE = "text/event-stream"
# No proxy may store, compress (which buffers) or buffer it. Never a Connection header: WSGI forbids it, and
# some servers answer 500 to it.
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}

_ENCODERS: dict[Format, Callable[[ChangeEvent, View], bytes | None]] = {
    "json": sse_format.encode_json,
    "message": sse_format.encode_message,
}


def open_stream(request: Request, hub: Hub, recall: Recall, gate: Gate, config: Config) -> Response:
    """Answer a request for a stream. The authorisation runs here, in the request's context; the stream itself
    keeps neither a context nor a database connection.

    :raises RequestError: the answer is that error instead.
    """
    query = dict(request.args.lists())
    asked = parse_stream(query, request.headers.get("Last-Event-ID"), config.max_subscriptions)
    if request.accept_mimetypes and not request.accept_mimetypes[MIMETYPE]:
        raise NotAcceptable
    views = _views(asked, gate)
    if request.method == "HEAD":
        return Response(mimetype=MIMETYPE, headers=HEADERS)
    stream = Stream(hub, views, config, socket_of(request.environ), recall, asked.cursor)
    return Response(stream, mimetype=MIMETYPE, headers=HEADERS)


def _views(asked: StreamRequest, gate: Gate) -> list[View]:
    encode = _ENCODERS[asked.format]
    opened = [gate.open(table, "sse") for table in asked.tables]
    views = dict.fromkeys(View(o.table, o.types, o.columns, o.exposed, encode) for o in opened)
    for view in views:
        # With other columns its changes would come twice, under one cursor.
        if sum(other.table == view.table for other in views) > 1:
            raise BadParameter(f"table: {view.table} is named twice, with different columns.")
    return list(views)


class Stream:
    """The bytes of one stream, for a WSGI server to iterate over and to close.

    A class and not a generator: the `finally` of a generator that was never started does not run. Nothing is
    taken before the first byte is asked for: a response that the app's after_request replaces is never closed.
    """

    def __init__(
        self, hub: Hub, views: list[View], config: Config, sock: Any, recall: Recall, named: str | None
    ) -> None:
        self._hub = hub
        self._views = views
        self._config = config
        self._recall = recall
        self._named = named
        self._sock = sock
        self._mailbox = Subscription(config.max_queue_bytes)
        self._unwatch: Callable[[], None] = lambda: None
        self._behind = False
        self._chunks = self._run()

    def _open(self) -> None:
        self._mailbox = self._hub.connect(self._config.max_queue_bytes)
        self._unwatch = self._watch(self._sock)

    def _watch(self, sock: Any) -> Callable[[], None]:
        if sock is None:
            return lambda: None
        give_up_when_stuck(sock)
        return waiting.watch_departure(sock, lambda: self._mailbox.close("departed"))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Give everything back. Closed already: does nothing."""
        self._unwatch()
        self._mailbox.close("departed")
        self._hub.disconnect(self._mailbox)

    def _run(self) -> Iterator[bytes]:
        self._open()
        yield sse_format.COMMENT + sse_format.retry(jittered_milliseconds(self._config.retry_seconds))
        since = resume.parse_cursor(self._named)
        while (cursor := self._subscribe(since)) is None and self._mailbox.closed is None:
            yield sse_format.COMMENT  # the listener has no position yet; the client sees that we are alive
        if cursor is not None:
            yield from self._begin(since, Cursor.parse(cursor))
        while self._mailbox.closed is None:
            if chunk := self._next_chunk():
                yield chunk
        yield from self._last_words()

    def _subscribe(self, since: Cursor | None) -> str | None:
        return self._hub.subscribe(self._mailbox, self._views, self._config.heartbeat_seconds, since=since)

    def _begin(self, since: Cursor | None, position: Cursor) -> Iterator[bytes]:
        """Say `ready`, and first what the client missed; or that it cannot be told, never nothing."""
        reason = resume.gap_reason(self._named, since, position)
        if since is None or reason is not None:
            yield self._ready(position, resumed=False) + self._gap(reason, position)
        else:
            yield self._ready(since, resumed=True)
            yield from self._missed(since, position)

    def _missed(self, since: Cursor, position: Cursor) -> Iterator[bytes]:
        """Send the changes between the two, a page at a time; what is published meanwhile waits in the mailbox."""
        self._behind = since != position
        while self._behind and self._mailbox.closed is None:
            try:
                page = self._recall(since, position.snapshot)
            except CursorError:
                self._behind = False
                yield self._gap("retention", position)
                return
            except ConnectionLost:
                waiting.sleep(resume.RETRY_SECONDS)
                yield sse_format.COMMENT
                continue
            since, self._behind = page.cursor, page.cursor != position
            if frames := resume.frames(page.events, self._views):
                yield b"".join(frames)
            waiting.sleep(0)  # the others first, also when neither the log nor the client made us wait

    def _ready(self, cursor: Cursor, *, resumed: bool) -> bytes:
        tables = [str(view.table) for view in self._views]
        data = {"resumed": resumed, "tables": tables, "heartbeat": as_number(self._config.heartbeat_seconds)}
        return sse_format.control("ready", data, str(cursor))

    def _gap(self, reason: resume.GapReason | None, cursor: Cursor) -> bytes:
        return sse_format.control("gap", {"reason": reason}, str(cursor)) if reason else b""

    def _next_chunk(self) -> bytes:
        """Wait for frames; all that wait are one write. After a heartbeat of silence a `sync`, which moves the
        client's cursor although nothing concerned it."""
        frames = self._mailbox.take(self._config.heartbeat_seconds)
        if frames or self._mailbox.closed:
            return b"".join(frames)
        cursor = self._hub.position(self._mailbox)
        return sse_format.control("sync", {}, cursor) if cursor else b""

    def _last_words(self) -> Iterator[bytes]:
        reason = self._mailbox.closed
        if reason is None or reason == "departed":
            return
        retry = jittered_milliseconds(self._config.retry_seconds)
        bye = sse_format.control("bye", {"reason": CLOSINGS[reason].reason, "retry": retry})
        # Not what waits behind missed changes that were not sent: the client would go on after it, without them.
        waiting_frames = [] if self._behind else self._mailbox.take(0)
        yield b"".join(waiting_frames) + sse_format.retry(retry) + bye
        if self._sock is not None:
            waiting.hang_up(self._sock)
