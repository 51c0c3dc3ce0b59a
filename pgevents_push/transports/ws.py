"""The behaviour of `/pgevents/ws`: many subscriptions on one WebSocket."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from flask import request
from flask.globals import app_ctx
from werkzeug.exceptions import HTTPException

from pgevents_push.config import Config
from pgevents_push.errors import BadParameter, Forbidden, RequestError, Unauthorized, Unavailable
from pgevents_push.hub import Hub, Recall, Subscription, View
from pgevents_push.transports.arrivals import Arrivals
from pgevents_push.transports.closing import CLOSINGS, Closing
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.gate import Gate, Opened
from pgevents_push.transports.handover import Exchange
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.showing import Source, Take
from pgevents_push.transports.switchboard import Switchboard
from pgevents_push.transports.ws_caller import Caller
from pgevents_push.transports.ws_line import WIRE, Line, Talk
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


class WebSocketEndpoint:
    """The WebSocket route of one app.

    :param hub: returns the hub of this process.
    :param gate: returns what is exposed now.
    :param release: gives back what the handshake's request still holds, above all the database connection of
        an app that looked up its user. Where the server keeps the connection, that request stays open as long as it.
    :param exchange: returns what takes connections over in this process; None where the server keeps them.
    """

    def __init__(
        self,
        *,
        hub: Callable[[], Hub],
        recall: Recall,
        take: Take,
        gate: Callable[[], Gate],
        settings: Config,
        release: Callable[[], None] = lambda: None,
        exchange: Callable[[], Exchange | None] = lambda: None,
    ) -> None:
        self._hub, self._recall, self._take, self._gate = hub, recall, take, gate
        self._settings, self._release, self._exchange = settings, release, exchange

    def serve(self, connection: SafeWebSocket, visit: Visit) -> None:
        """Run a connection until it ends and nothing of it is left; or until it is handed over."""
        caller = Caller(app_ctx.app, request.environ)
        hub, exchange = self._hub(), self._exchange()
        mailbox = hub.connect(self._settings.max_queue_bytes)
        try:
            if exchange is None or not connection.hand_over(
                lambda sock: self._give(exchange, sock, mailbox, caller, visit)
            ):
                self._release()
                visit.place.occupy(mailbox.close)
                self._converse(connection, mailbox, hub, (), caller, visit)
        finally:
            hub.disconnect(mailbox)

    def _give(self, exchange: Exchange, sock: Any, mailbox: Subscription, caller: Caller, visit: Visit) -> bool:
        if mailbox.closed is not None:
            return False

        def listening(broadcaster: Switchboard) -> Line:
            return Line(broadcaster, self, caller, visit)

        given = exchange.take(sock, mailbox, (), WIRE, visit.place, listening) is not None
        if given:
            visit.keep()
        return given

    # --- See Host

    @property
    def max_message_bytes(self) -> int:
        return self._settings.max_message_bytes

    @property
    def send_timeout(self) -> float:
        return self._settings.send_timeout_seconds

    def converse(self, talk: Talk, views: Iterable[View], caller: Caller, visit: Visit) -> None:
        """Do what the client of a connection that was handed over wants."""
        try:
            self._converse(talk, talk.mailbox, talk.hub, views, caller, visit)
        finally:
            talk.hub.disconnect(talk.mailbox)

    def _converse(
        self,
        connection: Connection,
        mailbox: Subscription,
        hub: Hub,
        views: Iterable[View],
        caller: Caller,
        visit: Visit,
    ) -> None:
        def ask(table: TableRequest) -> Opened:
            visit.check(table)
            with caller.request():
                return self._gate().open(table, "websocket", visit.identity)

        Conversation(connection, mailbox, hub, self._recall, self._take, ask, self._settings, views=views).run()


class Connection(Protocol):
    """What a conversation goes over."""

    @property
    def gone(self) -> bool:
        """Whether it is over."""
        ...

    @property
    def flooded(self) -> bool:
        """Whether the client was cut off because it sent too much."""
        ...

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to hear."""
        ...

    def messages(self) -> list[str | bytes]:
        """Return what the client sent since the last call."""
        ...

    def write(self, frames: Iterable[bytes]) -> None:
        """Send prebuilt frames, behind what has to come first."""
        ...

    def rest(self, views: Iterable[View]) -> bool:
        """Leave it to somebody else, now that nothing is to be done; return whether there is somebody."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye. Closed already: does nothing."""
        ...


class Conversation:
    """One connection: one loop that hears the client and passes on what comes into its mailbox.

    All answers go through the mailbox too, so that a client sees them in order with the changes: behind the
    `pong` that follows an `unsubscribe`, nothing of that subscription comes any more.
    """

    def __init__(
        self,
        connection: Connection,
        mailbox: Subscription,
        hub: Hub,
        recall: Recall,
        take: Take,
        ask: Callable[[TableRequest], Opened],
        settings: Config,
        clock: Callable[[], float] = time.monotonic,
        views: Iterable[View] = (),
    ) -> None:
        self._connection, self._mailbox, self._hub, self._take = connection, mailbox, hub, take
        self._ask, self._settings, self._clock = ask, settings, clock
        self._views: dict[str, View] = {view.label: view for view in views}
        self._arrivals = Arrivals(hub, recall, mailbox, settings, self._send_behind, clock)
        self._sent_at = clock()

    def run(self) -> None:
        """Go on until the client leaves, or we close, or nothing is to be done and somebody else takes the connection.

        :raises OSError: the client is gone, or took nothing until the deadline.
        """
        try:
            self._converse()
        finally:
            self._arrivals.close()
            del self._arrivals  # they refer back: each talk would be one more for the garbage collector

    def _converse(self) -> None:
        self._connection.start(self._mailbox.poke)
        try:
            while not self._connection.gone:
                self._connection.write(())  # the answers to pings, which wait for no subscription
                for message in self._connection.messages():
                    self._obey(parse(message))
                self._views |= self._arrivals.go_on()
                if self._is_settled and self._connection.rest(self._views.values()):
                    return None
                if ending := self._pass_on():
                    return self._connection.close(ending.code, ending.reason)
        except BadMessage as bad:
            self._connection.write([error(None, bad)])
            return self._connection.close(CloseCode.BAD_MESSAGE, "bad message")
        reason = (CloseCode.POLICY, "too many messages") if self._connection.flooded else (CloseCode.GONE, "")
        return self._connection.close(*reason)

    @property
    def _is_settled(self) -> bool:
        return self._mailbox.closed is None and not list(self._arrivals)

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
        return max(0.0, min([self._until_heartbeat(), *self._arrivals.patience()]))

    def _send(self, frames: list[bytes]) -> None:
        self._connection.write(frames)
        self._sent_at = self._clock()

    def _beat(self) -> None:
        # Before the first ready there is no cursor to move, nor while one of the subscriptions is behind; the ping
        # keeps proxies from closing.
        alike = self._views and not self._arrivals.behind
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
        taken = {*self._views, *self._arrivals}
        if command.ref in taken:
            raise BadParameter(f"ref {command.ref!r} is in use on this connection: unsubscribe it first.")
        if len(taken) >= self._settings.max_subscriptions:
            raise TooMany(f"At most {self._settings.max_subscriptions} subscriptions on one connection.")
        view = self._ask(command.table).view(encode_change, command.ref)
        source = Source(self._take, command.limit) if command.snapshot else None
        self._arrivals.add(command.ref, view, command.since, source)

    def _send_behind(self, frames: list[bytes]) -> None:
        """Send what is queued, and then these."""
        if everything := self._mailbox.take(0) + frames:
            self._send(everything)

    def _unsubscribe(self, ref: str) -> None:
        if ref in self._views:
            self._hub.unsubscribe(self._mailbox, [self._views.pop(ref)])
        elif not self._arrivals.remove(ref):
            raise NotSubscribed(f"No subscription of this connection has the ref {ref!r}.")


def _ref(command: Command) -> str | None:
    return None if isinstance(command, Ping) else command.ref
