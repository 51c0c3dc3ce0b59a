"""The behaviour of `/pgevents/ws`: many subscriptions on one WebSocket."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from flask import Flask, Response, request
from flask.globals import app_ctx
from werkzeug.exceptions import HTTPException

from pgevents_push.config import Config
from pgevents_push.errors import BadParameter, Forbidden, RequestError, Unauthorized, Unavailable
from pgevents_push.hub import Hub, Subscription, View
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
        self, *, hub: Callable[[], Hub], gate: Gate, settings: Config, release: Callable[[], None] = lambda: None
    ) -> None:
        self._hub, self._gate, self._settings, self._release = hub, gate, settings, release

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
            Conversation(connection, mailbox, hub, ask, self._settings).run()
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
        ask: Callable[[TableRequest], Opened],
        settings: Config,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection, self._mailbox, self._hub = connection, mailbox, hub
        self._ask, self._settings, self._clock = ask, settings, clock
        self._views: dict[str, View] = {}
        self._waiting: dict[str, tuple[View, str | None]] = {}
        self._sent_at = clock()

    def run(self) -> None:
        """Go on until the client leaves or we close.

        :raises OSError: the client is gone, or took nothing until the deadline.
        """
        self._connection.start(self._mailbox.poke)
        try:
            while not self._connection.gone:
                for message in self._connection.messages():
                    self._obey(parse(message))
                self._enrol()
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
        elif self._patience() <= 0:
            self._beat()
        return None

    def _patience(self) -> float:
        left = self._sent_at + self._settings.heartbeat_seconds - self._clock()
        return max(0.0, min(left, RETRY_SECONDS) if self._waiting else left)

    def _send(self, frames: list[bytes]) -> None:
        self._connection.write(frames)
        self._sent_at = self._clock()

    def _beat(self) -> None:
        # Before the first ready there is no cursor to move; the ping keeps proxies from closing.
        cursor = self._hub.position(self._mailbox) if self._views else None
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
        taken = {**self._views, **self._waiting}
        if command.ref in taken:
            raise BadParameter(f"ref {command.ref!r} is in use on this connection: unsubscribe it first.")
        if len(taken) >= self._settings.max_subscriptions:
            raise TooMany(f"At most {self._settings.max_subscriptions} subscriptions on one connection.")
        opened = self._ask(command.table)
        view = View(opened.table, opened.types, opened.columns, opened.exposed, encode_change, command.ref)
        self._waiting[command.ref] = (view, command.since)

    def _enrol(self) -> None:
        """Give new subscriptions to the hub. It takes none before the listener has a position, nor one of a
        table that is not captured yet; that one waits, the others do not."""
        for ref, (view, since) in list(self._waiting.items()):
            if self._hub.subscribe(self._mailbox, [view], 0, partial(self._greeting, view, since)) is not None:
                self._views[ref] = self._waiting.pop(ref)[0]

    def _greeting(self, view: View, since: str | None, cursor: str) -> bytes:
        heartbeat = as_number(self._settings.heartbeat_seconds)
        tables = [str(view.table)]
        ready = control("ready", ref=view.label, cursor=cursor, resumed=False, tables=tables, heartbeat=heartbeat)
        # This version cannot go back to a position, and must not be silent about what lies between.
        gap = control("gap", ref=view.label, cursor=cursor, reason="cursor") if since else b""
        return ready + gap

    def _unsubscribe(self, ref: str) -> None:
        if ref in self._views:
            self._hub.unsubscribe(self._mailbox, [self._views.pop(ref)])
        elif self._waiting.pop(ref, None) is None:
            raise NotSubscribed(f"No subscription of this connection has the ref {ref!r}.")


def _ref(command: Command) -> str | None:
    return None if isinstance(command, Ping) else command.ref
