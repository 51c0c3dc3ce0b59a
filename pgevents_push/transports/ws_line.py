"""A WebSocket that was handed over: silent at almost no cost, with a greenlet only while its client wants something."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from pgevents_push import waiting
from pgevents_push.errors import ConnectionLost
from pgevents_push.hub import CloseReason, Hub, Subscription, View
from pgevents_push.transports.channel import Client
from pgevents_push.transports.crowd import LINGER_BYTES
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.peer import reset_at_close
from pgevents_push.transports.switchboard import Switchboard
from pgevents_push.transports.ws_caller import Caller
from pgevents_push.transports.ws_ears import FLOOD, LEFT, Ears, Heard
from pgevents_push.transports.ws_protocol import CloseCode, FramedMessages, close_frame, joined

log = logging.getLogger(__name__)

WIRE = FramedMessages()

# What we may owe a client in pongs that it does not take: allowances limit only how fast that grows.
PONG_BYTES = 262_144
# What may wait while a client's greenlet is busy; more where messages may be large, and some for each of them.
UNHEEDED_BYTES, UNHEEDED_MAX_MESSAGES, MESSAGE_COST = 1_000_000, 8, 100


class Host(Protocol):
    """Who obeys clients."""

    @property
    def max_message_bytes(self) -> int: ...

    @property
    def send_timeout(self) -> float: ...

    def converse(self, talk: Talk, views: Iterable[View], caller: Caller, visit: Visit) -> None:
        """Do what a client wants, until nothing is left to be done.

        :raises OSError: it is gone, or took nothing until the deadline.
        """
        ...


class Line:
    """One such connection.

    The broadcaster writes its frames and reads what the client says. What is more than a ping is done by a greenlet
    of its own, in a mailbox of its own: in order, one after the other, however long each of it takes. When all is done
    the frames are the broadcaster's again, and the greenlet ends.
    """

    __slots__ = (
        "_broadcaster", "_caller", "_ears", "_host", "_is_lost", "_owed", "_passed_over", "_talk", "_visit", "client",
    )  # fmt: skip

    client: Client

    def __init__(self, broadcaster: Switchboard, host: Host, caller: Caller, visit: Visit) -> None:
        self._broadcaster, self._host, self._caller, self._visit = broadcaster, host, caller, visit
        self._ears: Ears | None = None
        self._talk: Talk | None = None
        self._is_lost = False
        self._owed = self._passed_over = 0

    # --- What the broadcaster calls; none of it waits

    def hear(self, data: bytes) -> None:
        """See Ear.hear."""
        if self.client.closed is not None or (self._talk is not None and self._talk.gone):
            self._pass_over(data)
            return
        if data and self._ears is None:
            self._ears = Ears(self._host.max_message_bytes)
        self._heed(self._ears.hear(data) if self._ears and data else LEFT)

    def _pass_over(self, data: bytes) -> None:
        """The end is near, but a greenlet or a client may be slow: to read for that long was half a CPU."""
        self._passed_over += len(data)
        if self._passed_over > LINGER_BYTES:
            self.cut()

    def forget(self, now: float) -> None:
        """See Ear.forget."""
        if self._ears is not None and self._ears.is_forgettable(now):
            self._ears = None

    def end(self, reason: CloseReason) -> None:
        """See Ear.end."""
        if self._talk is not None:
            self._talk.mailbox.close(reason)
        else:
            self.client.close(reason)

    def lose(self) -> None:
        """See Ear.lose. A greenlet may be waiting for the socket: then it closes it."""
        self._is_lost = True
        if self._talk is None:
            self._let_go()
        else:
            self._talk.lose()

    # --- From silence to talk, and back

    def _heed(self, heard: Heard) -> None:
        if self._talk is not None:
            self._talk.heed(heard)
        elif heard.messages and heard.goodbye is None:
            self._begin(heard)
        else:
            if heard.answer:
                self._answer(heard.answer)
            if heard.goodbye is not None:
                self._broadcaster.dismiss(self.client, heard.goodbye)

    def _answer(self, pongs: bytes) -> None:
        self._owed = len(pongs) + (0 if self.client.rest is None else self._owed)
        if self._owed <= PONG_BYTES:
            self._broadcaster.say(self.client, pongs)
        else:
            self.client.close("overflow")

    def _begin(self, heard: Heard) -> None:
        own, views, rest = self._broadcaster.withdraw(self.client)
        talk = self._talk = Talk(self, self._broadcaster.hub, own, rest, self._host)
        talk.heed(heard)
        waiting.spawn(self._converse, talk, views, name="pgevents-websocket")

    def _converse(self, talk: Talk, views: Iterable[View]) -> None:
        try:
            self._host.converse(talk, views, self._caller, self._visit)
        except OSError as error:  # the client left, or took nothing until the deadline
            log.info("a WebSocket client was dropped: %s", error)
            self.cut()
        except Exception:
            log.exception("a WebSocket connection failed")
            talk.close(CloseCode.FAILED, "internal error")
        except BaseException:  # a gevent.Timeout of the app's; nobody would hear or serve the client any more
            self.cut()
            raise
        finally:
            if self._talk is talk:
                self._stop(talk)

    def fall_silent(self, talk: Talk, views: Iterable[View]) -> bool:
        """All is done: give the connection back; False, and nothing has changed, when that is not possible now."""
        if not self._broadcaster.come_back(self.client, talk.mailbox, views, WIRE):
            return False
        self._stop(talk)
        if not self._is_lost and (more := talk.unheeded()):
            self._heed(more)
        return True

    def _stop(self, talk: Talk) -> None:
        self._talk = None
        if self._is_lost:
            self._let_go()

    def part(self) -> None:
        """Our goodbye was said."""
        self._broadcaster.dismiss(self.client, b"")

    def cut(self) -> None:
        """The client does not take what we say: end the connection, and let go of what the kernel holds for it."""
        reset_at_close(self.client.socket)
        self._broadcaster.drop(self.client)

    def _let_go(self) -> None:
        self.client.socket.close()
        self.client.leave = _nothing  # so that nothing of all this is left for the garbage collector
        self.client.ear = None
        self._visit.leave()


class Talk:
    """The connection of a client that is being attended to; what Conversation sees of it. Its greenlet writes, and the
    broadcaster nothing but pongs, where no frame is half out."""

    def __init__(self, line: Line, hub: Hub, mailbox: Subscription, rest: bytes, host: Host) -> None:
        self._line, self.hub, self.mailbox, self._send_timeout = line, hub, mailbox, host.send_timeout
        self._most_unheeded = max(UNHEEDED_BYTES, UNHEEDED_MAX_MESSAGES * host.max_message_bytes)
        self._unheeded = 0
        self._first = [rest] if rest else []
        self._messages: list[str | bytes] = []
        self._goodbye: bytes | None = None
        self.gone = self._is_over = self._is_writing = False
        self.flooded = False

    @property
    def _socket(self) -> Any:
        return self._line.client.socket

    def heed(self, heard: Heard) -> None:
        """Take note of what the client said."""
        if self._unheeded > self._most_unheeded and heard.goodbye is None:
            heard = FLOOD
        self._unheeded += sum(len(message) + MESSAGE_COST for message in heard.messages)
        self._messages += heard.messages
        if heard.answer:
            self._answer(heard.answer)
        if heard.goodbye is not None:
            self._goodbye, self.gone = heard.goodbye, True
        self.mailbox.poke()

    def _answer(self, pongs: bytes) -> None:
        """At once where possible: the greenlet may be busy for longer than a client waits for a pong."""
        sent = 0
        if not self._first and not self._is_writing and not self._is_over:
            try:
                sent = self._socket.send(pongs)
            except OSError:
                pass  # it takes nothing now, or left: the greenlet learns of it
        if sent < len(pongs):
            self._first.append(pongs[sent:])
            self._unheeded += len(pongs) + MESSAGE_COST

    def unheeded(self) -> Heard | None:
        """What nobody has looked at, if there is anything."""
        answer = b"".join(self._first)
        found = Heard(self._messages, answer, self._goodbye)
        return found if found.messages or answer or found.goodbye is not None else None

    def lose(self) -> None:
        """The connection is over. Whoever waits for it learns of it now."""
        self.gone = self._is_over = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker
        self.mailbox.poke()

    # --- See SafeWebSocket

    def start(self, wake: Callable[[], None]) -> None:
        """It is open already, and pokes its mailbox."""

    def messages(self) -> list[str | bytes]:
        """Return what the client sent since the last call."""
        messages, self._messages, self._unheeded = self._messages, [], 0
        return messages

    def write(self, frames: Iterable[bytes]) -> None:
        """Send prebuilt frames, small ones joined, behind what has to come first.

        :raises OSError: the client is gone, or took nothing until the deadline.
        """
        first, self._first = self._first, []
        self._is_writing = True
        try:
            for data in joined([*first, *frames]):
                self._send(data)
        finally:
            self._is_writing = False

    def _send(self, data: bytes) -> None:
        if self._is_over:
            raise ConnectionResetError("the client is gone")
        try:
            waiting.send_all(self._socket, data, self._send_timeout)
        except (OSError, ConnectionLost) as error:
            self._is_over = True  # half a frame may be out: nothing that follows would be understood
            raise error if isinstance(error, OSError) else TimeoutError(str(error)) from None

    def rest(self, views: Iterable[View]) -> bool:
        """Leave the connection to the broadcaster, if nothing is to be done now; return whether that was so."""
        if self._first:
            self.write([])
        return not self._messages and not self.gone and self._line.fall_silent(self, views)

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye; the client's own comes first. Gone already: does nothing."""
        if self._is_over:
            return None
        try:
            self.write([close_frame(code, reason) if self._goodbye is None else self._goodbye])
        except OSError:
            return self._line.cut()
        self.gone = self._is_over = True
        return self._line.part()


def _nothing() -> None:
    pass
