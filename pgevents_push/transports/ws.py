"""The behaviour of `/pgevents/ws`: many subscriptions on one WebSocket."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask, Response, request
from flask.globals import app_ctx
from werkzeug.exceptions import HTTPException

from pgevents_push import waiting
from pgevents_push.config import Config
from pgevents_push.cursor import Cursor
from pgevents_push.errors import BadParameter, Forbidden, RequestError, Unauthorized, Unavailable
from pgevents_push.hub import Hub, Recall, Subscription, View
from pgevents_push.transports import resume
from pgevents_push.transports.catch_up import CatchUp
from pgevents_push.transports.closing import CLOSINGS, Closing, as_number
from pgevents_push.transports.gate import Gate, Opened
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.ws_handshake import refuse_foreign_origin, without_socket
from pgevents_push.transports.ws_protocol import (
    PING_FRAME,
    BadMessage,
    CloseCode,
    Command,
    NotSubscribed,
    Ping,
    Subscribe,
    TooMany,
    Unsubscribe,
    control,
    encode_change,
    error,
    parse,
)
from pgevents_push.transports.ws_socket import SafeWebSocket

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.2  # how often a subscription is tried again while the listener has no position yet


class WebSocketEndpoint:
    """The WebSocket route of one app.

    :param hub: returns the hub of this process.
    :param release: gives back what the handshake's request still holds, above all the database connection of
        an app that looked up its user. That request stays open as long as the socket.
    """

    def __init__(
        self,
        *,
        hub: Callable[[], Hub],
        recall: Recall,
        gate: Gate,
        settings: Config,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self._hub, self._recall, self._gate = hub, recall, gate
        self._settings, self._release = settings, release

    def check(self) -> Response | None:
        """Refuse a handshake before it is made; None lets it through."""
        return refuse_foreign_origin(self._settings)

    def serve(self, connection: SafeWebSocket) -> None:
        """Run a connection until it ends; nothing of it is left then."""
        app, environ = app_ctx.app, without_socket(request.environ)
        self._release()

        def ask(table: TableRequest) -> Opened:
            with _request_of_its_own(app, environ):
                return self._gate.open(table, "websocket")

        hub = self._hub()
        mailbox = hub.connect(self._settings.max_queue_bytes)
        try:
            Conversation(connection, mailbox, hub, self._recall, ask, self._settings).run()
        finally:
            hub.disconnect(mailbox)


@contextmanager
def _request_of_its_own(app: Flask, environ: dict[str, Any]) -> Iterator[None]:
    """Run `authorize` as in a fresh request of the same caller: what it takes, a database session above all,
    is given back at once, and it sees what the app's own before_request functions prepare."""
    with app.app_context(), app.request_context(environ):
        for scope in (None, *reversed(request.blueprints)):
            for function in app.before_request_funcs.get(scope, ()):
                answer = app.ensure_sync(function)()
                if answer is not None:
                    status = app.make_response(answer).status_code
                    # A redirect leads to a login page, as far as a socket is concerned.
                    raise Unauthorized if status == 401 or 300 <= status < 400 else Forbidden
        yield


@dataclass(frozen=True)
class _Newcomer:
    """A subscription that waits for the hub: where its client was, and how long to wait for that."""

    view: View
    named: str | None
    enough: int


class Conversation:
    """One connection: one loop that hears the client and passes on what comes into its mailbox.

    All answers go through the mailbox too, so that a client sees them in order with the changes: behind the
    `pong` that follows an `unsubscribe`, nothing of that subscription comes any more.
    """

    def __init__(
        self,
        connection: SafeWebSocket,
        mailbox: Subscription,
        hub: Hub,
        recall: Recall,
        ask: Callable[[TableRequest], Opened],
        settings: Config,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._mailbox, self._hub, self._recall = connection, mailbox, hub, recall
        self._ask, self._settings, self._clock = ask, settings, clock
        self._views: dict[str, View] = {}
        self._waiting: dict[str, _Newcomer] = {}
        self._catching_up: dict[str, CatchUp] = {}
        self._sent_at = clock()

    def run(self) -> None:
        """Go on until the client leaves or we close.

        :raises OSError: the client is gone, or took nothing until the deadline.
        """
        try:
            self._converse()
        finally:
            for catch_up in self._catching_up.values():
                self._hub.disconnect(catch_up.mailbox)

    def _converse(self) -> None:
        self._connection.start(self._mailbox.poke)
        try:
            while not self._connection.gone:
                for message in self._connection.messages():
                    self._obey(parse(message))
                self._enrol()
                self._go_on()
                if ending := self._pass_on():
                    return self._connection.close(ending.code, ending.reason)
        except BadMessage as bad:
            self._connection.write([error(None, bad)])
            return self._connection.close(CloseCode.BAD_MESSAGE, "bad message")
        reason = (CloseCode.POLICY, "too many messages") if self._connection.flooded else (CloseCode.GONE, "")
        return self._connection.close(*reason)

    def _pass_on(self) -> Closing | None:
        """Send what is in the mailbox, or wait for it; return how to close when the mailbox is closed."""
        frames = self._mailbox.take(self._patience())
        if self._mailbox.closed == "overflow":
            return CLOSINGS["overflow"]  # what is queued comes again when the client resumes
        if frames:
            self._send(frames)
        elif self._mailbox.closed:
            return CLOSINGS[self._mailbox.closed]
        elif self._until_heartbeat() <= 0:
            self._beat()
        return None

    def _until_heartbeat(self) -> float:
        return self._sent_at + self._settings.heartbeat_seconds - self._clock()

    def _patience(self) -> float:
        pauses = [catch_up.not_before - self._clock() for catch_up in self._catching_up.values()]
        retry = [RETRY_SECONDS] if self._waiting else []
        return max(0.0, min([self._until_heartbeat(), *pauses, *retry]))

    def _send(self, frames: list[bytes]) -> None:
        self._connection.write(frames)
        self._sent_at = self._clock()

    def _beat(self) -> None:
        # Before the first ready there is no cursor to move, nor while one of the subscriptions is behind; the ping
        # keeps proxies from closing.
        behind = self._catching_up or any(new.named for new in self._waiting.values())
        alike = self._views and not behind
        cursor = self._hub.position(self._mailbox) if alike else None
        self._send([PING_FRAME if cursor is None else control("sync", cursor=cursor)])

    def _obey(self, command: Command) -> None:
        try:
            self._do(command)
        except RequestError as refused:
            self._mailbox.put(error(_ref(command), refused))
        except HTTPException as refused:  # abort() in one of the app's before_request functions
            self._mailbox.put(error(_ref(command), Unauthorized() if refused.code == 401 else Forbidden()))
        except Exception:
            log.exception("a WebSocket command failed")
            self._mailbox.put(error(_ref(command), Unavailable("The command failed; the server's log says why.")))

    def _do(self, command: Command) -> None:
        if isinstance(command, Subscribe):
            self._subscribe(command)
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(command.ref)
        elif isinstance(command, Ping):
            self._mailbox.put(control("pong"))
        else:
            raise command.error

    def _subscribe(self, command: Subscribe) -> None:
        taken = {*self._views, *self._waiting, *self._catching_up}
        if command.ref in taken:
            raise BadParameter(f"ref {command.ref!r} is in use on this connection: unsubscribe it first.")
        if len(taken) >= self._settings.max_subscriptions:
            raise TooMany(f"At most {self._settings.max_subscriptions} subscriptions on one connection.")
        opened = self._ask(command.table)
        view = View(opened.table, opened.types, opened.columns, opened.exposed, encode_change, command.ref)
        self._waiting[command.ref] = _Newcomer(view, command.since, self._hub.looks + 2)

    def _enrol(self) -> None:
        """Give new subscriptions to the hub. It takes none before the listener has a position, nor one of a
        table that is not captured yet; that one waits, the others do not."""
        for ref, new in list(self._waiting.items()):
            since = resume.parse_cursor(new.named)
            # In a mailbox of its own at first: what it missed must come before what comes now.
            own = self._hub.connect(self._settings.max_queue_bytes)
            cursor = self._hub.subscribe(own, [new.view], 0, since=since, enough=new.enough)
            if cursor is None:
                self._hub.disconnect(own)
                continue
            del self._waiting[ref]
            self._greet(ref, new, CatchUp(new.view, own, since, Cursor.parse(cursor)))

    def _greet(self, ref: str, new: _Newcomer, catch_up: CatchUp) -> None:
        reason = resume.gap_reason(new.named, catch_up.since, catch_up.position)
        if catch_up.since is not None and reason is None:
            self._mailbox.put(self._ready(ref, new.view, catch_up.since, resumed=True))
            self._catching_up[ref] = catch_up
        else:
            self._mailbox.put(self._ready(ref, new.view, catch_up.position, resumed=False))
            self._join(ref, catch_up, reason)

    def _ready(self, ref: str, view: View, cursor: Cursor, *, resumed: bool) -> bytes:
        heartbeat = as_number(self._settings.heartbeat_seconds)
        tables = [str(view.table)]
        return control("ready", ref=ref, cursor=str(cursor), resumed=resumed, tables=tables, heartbeat=heartbeat)

    def _join(self, ref: str, catch_up: CatchUp, reason: resume.GapReason | None) -> None:
        """The subscription is up to date: it goes on in the common mailbox."""
        if reason is not None:
            self._mailbox.put(control("gap", ref=ref, cursor=str(catch_up.position), reason=reason))
        self._hub.hand_over(catch_up.view, catch_up.mailbox, self._mailbox)
        self._views[ref] = catch_up.view

    def _go_on(self) -> None:
        """Send one page to each subscription that is behind; the others get their changes in between."""
        for ref, catch_up in list(self._catching_up.items()):
            if catch_up.not_before > self._clock():
                continue
            frames, reason = catch_up.next_page(self._recall, self._clock)
            # Behind what is queued, its own `ready` first of all.
            self._send_all(self._mailbox.take(0) + frames)
            self._mailbox.poke()  # the client may have said something meanwhile, and `take` forgets that
            waiting.sleep(0)  # the others first, also when neither the log nor the client made us wait
            if catch_up.done:
                del self._catching_up[ref]
                self._join(ref, catch_up, reason)

    def _send_all(self, frames: list[bytes]) -> None:
        if frames:
            self._send(frames)

    def _unsubscribe(self, ref: str) -> None:
        if ref in self._views:
            self._hub.unsubscribe(self._mailbox, [self._views.pop(ref)])
        elif ref in self._catching_up:
            self._hub.disconnect(self._catching_up.pop(ref).mailbox)
        elif self._waiting.pop(ref, None) is None:
            raise NotSubscribed(f"No subscription of this connection has the ref {ref!r}.")


def _ref(command: Command) -> str | None:
    return None if isinstance(command, Ping) else command.ref
