"""GET /pgevents/stream: a mailbox as Server-Sent Events, with heartbeat and a clean end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from flask import Request, Response

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.cursor import Cursor
from pgevents_push.errors import (
    BadParameter,
    ConnectionLost,
    Crowded,
    CursorError,
    NotAcceptable,
    PGEventsError,
)
from pgevents_push.event import Gap, GapReason, TableName
from pgevents_push.hub import Chunk, Encode, Hub, Recall, Shipment, Subscription, View
from pgevents_push.transports import departures, resume, showing, sse_format, uncaptured
from pgevents_push.transports.closing import CLOSINGS, as_number, jittered_milliseconds
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.fragments import FragmentEncoder, Fragments
from pgevents_push.transports.gate import Gate
from pgevents_push.transports.handover import Exchange, Handover, StreamResponse
from pgevents_push.transports.peer import give_up_when_stuck, socket_of
from pgevents_push.transports.places import Place
from pgevents_push.transports.request import Format, StreamRequest, parse_stream
from pgevents_push.transports.showing import Source, Take

MIMETYPE = "text/event-stream"
# No proxy may store, compress (which buffers) or buffer it. Never a Connection header: WSGI forbids it, and
# some servers answer 500 to it.
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


def open_stream(
    request: Request,
    hub: Hub,
    recall: Recall,
    take: Take,
    gate: Gate,
    fragments: Fragments,
    config: Config,
    visit: Visit,
    exchange: Exchange | None = None,
) -> Response:
    """Answer a request for a stream. The authorisation runs here, in the request's context; the stream itself
    keeps neither a context nor a database connection.

    :param exchange: takes the connection once the stream is live, where it can; None: the server keeps it.
    :raises RequestError: the answer is that error instead.
    """
    query = dict(request.args.lists())
    asked = parse_stream(query, request.headers.get("Last-Event-ID"), config.max_subscriptions)
    if request.accept_mimetypes and not request.accept_mimetypes[MIMETYPE]:
        raise NotAcceptable
    views = _views(asked, gate, fragments, visit)
    if request.method == "HEAD":
        visit.place.leave()
        return Response(mimetype=MIMETYPE, headers=HEADERS)
    source = Source(take, asked.limit) if asked.snapshot else None
    handover = Handover(exchange)
    stream = Stream(hub, views, config, socket_of(request.environ), recall, asked.cursor, visit.place, source, handover)
    response = StreamResponse(stream, mimetype=MIMETYPE, headers=HEADERS)
    response.handover = handover
    return response


def _views(asked: StreamRequest, gate: Gate, fragments: Fragments, visit: Visit) -> list[View]:
    for table in asked.tables:
        visit.check(table)
    opened = [gate.open(table, "sse", visit.identity) for table in asked.tables]
    views = dict.fromkeys(o.view(_encoder(asked.format, o.table, fragments, visit)) for o in opened)
    for view in views:
        # With other columns its changes would come twice, under one cursor.
        if sum(other.table == view.table for other in views) > 1:
            raise BadParameter(f"table: {view.table} is named twice, with different columns or filters.")
    return list(views)


def _encoder(name: Format, table: TableName, fragments: Fragments, visit: Visit) -> Encode:
    if name == "html" or name == "turbo":
        return fragments.encoder(name, table, visit.identity)
    return sse_format.encode_json if name == "json" else sse_format.encode_message


class Stream:
    """The bytes of one stream, for a WSGI server to iterate over and to close.

    A class and not a generator: the `finally` of a generator that was never started does not run. Nothing is
    taken before the first byte is asked for: a response that the app's after_request replaces is never closed.
    """

    def __init__(
        self,
        hub: Hub,
        views: list[View],
        config: Config,
        sock: Any,
        recall: Recall,
        named: str | None,
        place: Place,
        source: Source | None = None,
        handover: Handover | None = None,
    ) -> None:
        self._hub = hub
        self._views = views
        self._config = config
        self._recall = recall
        self._source = source
        self._named = None if source is not None and named == resume.UNFINISHED else named
        self._sock = sock
        self._place, self._leave = place, place.leave
        self._mailbox = Subscription(config.max_queue_bytes)
        self._unwatch: Callable[[], None] = lambda: None
        self._shipment: Shipment | None = None
        self._shown = self._live = self._behind = False
        self._handover = handover or Handover(None)
        self._enough, self._patience = 0, uncaptured.Patience(hub, views)
        self._chunks = self._run()

    def _open(self) -> None:
        self._mailbox = self._hub.connect(self._config.max_queue_bytes)
        self._place.occupy(self._mailbox.close)
        self._unwatch = self._watch(self._sock)

    def _watch(self, sock: Any) -> Callable[[], None]:
        if sock is None:
            return lambda: None
        give_up_when_stuck(sock)
        return departures.watch_departure(sock, lambda: self._mailbox.close("departed"))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._handover.note(chunk)
        return chunk

    def close(self) -> None:
        """Give everything back. Closed already: does nothing."""
        self._unwatch()
        self._mailbox.close("departed")
        self._hub.disconnect(self._mailbox)
        if self._shipment is not None:
            self._shipment.close()
        self._leave()

    def _run(self) -> Iterator[bytes]:
        self._open()
        yield sse_format.COMMENT + sse_format.retry(jittered_milliseconds(self._config.retry_seconds))
        self._enough = self._hub.looks + 2
        while not self._live and self._mailbox.closed is None:
            yield from self._begin()
        while self._mailbox.closed is None:
            if self._give_away():
                return
            if chunk := self._next_chunk():
                yield chunk
        yield from self._last_words()

    def _give_away(self) -> bool:
        """Hand the connection over, now that the stream is live and while nothing in the mailbox is pending; what is
        ours is then the broadcaster's."""
        if not self._handover.is_possible() or self._mailbox.is_pending:
            return False
        self._unwatch()
        given = self._handover.give(self._mailbox, self._views, self._place)
        if given:
            self._unwatch = self._leave = lambda: None
        else:
            self._unwatch = self._watch(self._sock)
        return given

    def _begin(self) -> Iterator[bytes]:
        """Say `ready`, and first what the client missed; or that it cannot be told, never nothing. A client that wants
        to see the rows resumes from the moment that they are of."""
        since = resume.parse_cursor(self._named)
        seconds = min(self._config.heartbeat_seconds, uncaptured.LOOK_SECONDS)
        cursor = self._hub.subscribe(self._mailbox, self._views, seconds, since, self._enough)
        if cursor is None:
            if self._patience.exhausted_by():
                self._mailbox.close("uncaptured")
            yield sse_format.COMMENT  # the listener has no position yet; the client sees that we are alive
            return
        position = Cursor.parse(cursor)
        reason = resume.gap_reason(self._named, since, position, self._views)
        if since is not None and reason is None:
            yield self._ready(since, resumed=not self._shown)
            yield from self._missed(since, position)
        elif self._source is None:
            yield self._ready(position, resumed=False) + self._gap(reason, str(position))
            self._live = True
        else:
            if reason is not None:
                yield self._gap(reason, resume.UNFINISHED)
            yield from self._start_over(self._source)

    def _start_over(self, source: Source) -> Iterator[bytes]:
        """Show the rows. They are read only now that the tables are captured, so that no change after them is lost."""
        self._named = None
        self._hub.unsubscribe(self._mailbox, self._views)
        self._mailbox.take(0)
        self._shipment = source.read(self._views, self._encode_rows, self._mailbox)
        try:
            yield from self._show(self._shipment)
        finally:
            self._shipment.close()

    def _encode_rows(self, chunk: Chunk) -> bytes:
        encode = next(view.encode for view in self._views if view.table == chunk.table)
        return encode.rows(chunk) if isinstance(encode, FragmentEncoder) else sse_format.encode_rows(chunk)

    def _show(self, shipment: Shipment) -> Iterator[bytes]:
        begun = False
        try:
            for frame in showing.frames(shipment, self._mailbox, self._config.heartbeat_seconds):
                begun = begun or frame is not None
                yield frame or sse_format.COMMENT
        except ConnectionLost:
            if begun:
                self._mailbox.close("lost")  # the moment that the client has a part of is over
            waiting.sleep(resume.RETRY_SECONDS)
        except PGEventsError as failure:
            self._mailbox.close(showing.close_reason(failure))
        if shipment.done:
            self._named, self._shown, self._enough = str(shipment.cursor), True, self._hub.looks + 2

    def _missed(self, since: Cursor, position: Cursor) -> Iterator[bytes]:
        """Send the changes between the two, a page at a time; what is published meanwhile waits in the mailbox. Where
        there is nothing to show, at least say so: who gives up in a long silence would begin where it began."""
        self._behind = since != position
        while self._behind and self._mailbox.closed is None:
            try:
                frames, reached = resume.read_on(self._recall, since, position.snapshot, self._views, self._hub)
            except CursorError as error:
                self._behind = False
                yield from self._too_late(resume.reason_of(error), position)
                return
            except (ConnectionLost, Crowded):
                waiting.sleep(resume.RETRY_SECONDS)
                yield _sync(str(since))
                continue
            if reached is None:
                self._mailbox.close("schema")
                return
            since, self._behind = reached, reached != position
            if frames or self._behind:
                yield b"".join(frames) or _sync(str(since))
            waiting.sleep(0)  # the others first, also when neither the log nor the client made us wait
        self._live = True

    def _too_late(self, reason: GapReason, position: Cursor) -> Iterator[bytes]:
        """What the client missed cannot be told any more."""
        if self._source is None:
            self._live = True
            yield self._gap(reason, str(position))
        elif self._shown:
            self._mailbox.close("overflow")  # it took the rows for longer than the log keeps changes
        else:
            self._named = None
            yield self._gap(reason, resume.UNFINISHED)

    def _ready(self, cursor: Cursor, *, resumed: bool) -> bytes:
        tables = [str(view.table) for view in self._views]
        data = {"resumed": resumed, "tables": tables, "heartbeat": as_number(self._config.heartbeat_seconds)}
        return sse_format.control("ready", data, str(cursor))

    def _gap(self, reason: GapReason | None, cursor: str) -> bytes:
        return sse_format.gap(Gap(reason, cursor)) if reason else b""

    def _next_chunk(self) -> bytes:
        """Wait for frames; all that wait are one write. After a heartbeat of silence a `sync`, which moves the
        client's cursor although nothing concerned it."""
        frames = self._mailbox.take(self._config.heartbeat_seconds)
        if frames or self._mailbox.closed:
            return b"".join(frames)
        cursor = self._hub.position(self._mailbox)
        return _sync(cursor) if cursor else sse_format.COMMENT

    def _last_words(self) -> Iterator[bytes]:
        reason = self._mailbox.closed
        if reason is None or reason == "departed":
            return
        retry = jittered_milliseconds(self._config.retry_seconds)
        bye = sse_format.control("bye", {"reason": CLOSINGS[reason].reason, "retry": retry, **self._patience.words})
        # Not what waits behind missed changes that were not sent: the client would go on after it, without them.
        waiting_frames = [] if self._behind else self._mailbox.take(0)
        yield b"".join(waiting_frames) + sse_format.retry(retry) + bye
        if self._sock is not None:
            waiting.hang_up(self._sock)


def _sync(cursor: str) -> bytes:
    return sse_format.control("sync", {}, cursor)
