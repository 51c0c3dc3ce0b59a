"""The entrance: what a connection passes before anybody is asked what it may see: caps first, then who it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from flask import Request
from werkzeug.exceptions import HTTPException

from pgevents_push.config import Config
from pgevents_push.errors import BadParameter, ConnectionLost, Forbidden, Unauthorized, Unavailable
from pgevents_push.transports.places import Kind, Place, Places
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.ticket import PARAMETER, REFUSED, Ticket, Tickets, forget

log = logging.getLogger(__name__)

Identify = Callable[[], object]


class Visit:
    """A connection that was let in: its place, and whose it is. As a context it gives the place back on an error."""

    __slots__ = ("_is_kept", "_ticket", "place")

    def __init__(self, place: Place, ticket: Ticket | None = None) -> None:
        self.place, self._ticket = place, ticket
        self._is_kept = False

    @property
    def identity(self) -> str | None:
        return self.place.identity

    def keep(self) -> None:
        """Let it be somebody else's than the request's to end."""
        self._is_kept = True

    def end_with_request(self) -> None:
        """The request is over, and the visit with it, unless it was kept."""
        if not self._is_kept:
            self.leave()

    def leave(self) -> None:
        """Give the place back. Given back already: does nothing."""
        self.place.leave()

    def check(self, asked: TableRequest) -> None:
        """Make sure that a table is one of those that the visitor's ticket, if it has one, is for.

        :raises Forbidden: it is not.
        """
        if self._ticket is not None:
            self._ticket.check(asked)

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.place.leave()


class Entrance:
    """The way into one app in one process.

    :param identify: the app's own function; None: nobody has a name.
    :param spend: notes a ticket's number for all processes; False when it was noted before.
    """

    def __init__(
        self,
        places: Places,
        identify: Identify | None,
        tickets: Tickets,
        spend: Callable[[str], bool],
        config: Config,
    ) -> None:
        self._places, self._identify = places, identify
        self._tickets, self._spend, self._config = tickets, spend, config

    def enter(self, request: Request, kind: Kind) -> Visit:
        """Let the current request in: what is cheap to refuse is refused first.

        :raises RequestError: the answer is that error instead.
        """
        most = self._config.max_query_bytes
        if len(request.query_string) > most:
            raise BadParameter(f"The query has {len(request.query_string)} bytes, at most {most} are allowed.")
        with Visit(self._places.take(kind, request.remote_addr)) as visit:
            if PARAMETER in request.args:
                return self._enter_with(request, visit.place)
            visit.place.name(identity_of_caller(self._identify))
        return visit

    def _enter_with(self, request: Request, place: Place) -> Visit:
        text = request.args[PARAMETER]
        forget(request.environ)
        ticket = self._tickets.read(text)
        place.name(ticket.identity)
        self._take(ticket)  # last of all: one that was refused for another reason can be tried again
        return Visit(place, ticket)

    def _take(self, ticket: Ticket) -> None:
        try:
            fresh = self._spend(ticket.number)
        except ConnectionLost as error:
            log.warning("a ticket was refused, because nobody knows whether it was used before: %s", error)
            raise Unavailable("Tickets cannot be checked now.", retry_after=1) from None
        if not fresh:
            self._places.counts["refused_ticket"] += 1
            raise Unauthorized(REFUSED)


def identity_of_caller(identify: Identify | None) -> str | None:
    """Ask the app who the caller of the current request is.

    :raises Unauthorized: it did abort(401).
    :raises Forbidden: it failed, aborted otherwise, or answered something that is no name.
    """
    if identify is None:
        return None
    try:
        identity = identify()
    except HTTPException as error:
        raise (Unauthorized if error.code == 401 else Forbidden) from None
    except Exception:
        log.exception("identify failed: denied")
        raise Forbidden from None
    if identity is None or (isinstance(identity, str) and identity):
        return identity
    log.error("identify returned %s, not a text or None: denied. Perhaps str(user.id)?", type(identity).__name__)
    raise Forbidden
