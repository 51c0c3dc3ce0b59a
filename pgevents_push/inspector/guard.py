"""Guard: who may look at the inspector, which hides no column and no table: whoever may use Werkzeug's console."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from flask import Flask, Request, Response
from werkzeug.debug import PIN_TIME, get_pin_and_cookie_name, hash_pin
from werkzeug.sansio.utils import host_is_trusted

log = logging.getLogger(__name__)

# As Werkzeug's console: a page of somebody else that points its own name at 127.0.0.1 is refused.
TRUSTED_HOSTS = (".localhost", "127.0.0.1", "[::1]")
MOST_FAILURES = 10
# A browser's cookie must not open both: that one can run code.
COOKIE = "pgevents_inspector"


class Answer(NamedTuple):
    """What came of an attempt: may look; or no more attempts are taken until the process starts anew."""

    auth: bool
    exhausted: bool


class Guard:
    """Asks for the PIN of Werkzeug's debugger, which `flask run --debug` prints; WERKZEUG_DEBUG_PIN sets it or, as
    "off", does without.

    :param enabled: PGEVENTS_INSPECTOR; None: while the app is in debug mode.
    """

    def __init__(self, app: Flask, enabled: bool | None, clock: Callable[[], float] = time.time) -> None:
        self._app, self._enabled, self._clock = app, enabled, clock
        self._failures = 0
        self._told = False

    def is_there(self, request: Request) -> bool:
        """Whether there is an inspector at all, for this request; if not, nothing tells it from an unknown URL."""
        enabled = self._app.debug if self._enabled is None else self._enabled
        return enabled and host_is_trusted(request.host, TRUSTED_HOSTS)

    def may_look(self, request: Request) -> bool:
        """Whether this browser has given the PIN within the last week."""
        pin = self._pin()
        if pin is None:
            return True
        since, _, proof = request.cookies.get(COOKIE, "").partition("|")
        fresh = since.isascii() and since.isdigit() and int(since) > self._clock() - PIN_TIME
        return fresh and hmac.compare_digest(proof.encode(), self._proof(pin, since).encode())

    def attempt(self, entered: str) -> Answer:
        """Take a PIN that somebody entered."""
        pin = self._pin()
        if self._failures >= MOST_FAILURES:
            return Answer(False, True)
        if pin is None or hmac.compare_digest(_digits(entered).encode(), _digits(pin).encode()):
            self._failures = 0
            return Answer(True, False)
        self._failures += 1
        return Answer(False, self._failures >= MOST_FAILURES)

    def admit(self, request: Request, response: Response) -> Response:
        """Let the browser that gets this response look, for a week."""
        if (pin := self._pin()) is not None:
            since = str(int(self._clock()))
            response.set_cookie(
                COOKIE, f"{since}|{self._proof(pin, since)}", max_age=PIN_TIME, path=request.path.rpartition("/")[0],
                httponly=True, samesite="Strict", secure=request.is_secure,
            )  # fmt: skip
        return response

    def tell(self) -> None:
        """Print the PIN, once, where Werkzeug's debugger does not."""
        if not self._told and (pin := self._pin()) is not None:
            self._told = True
            log.warning("The PIN of the inspector is %s", pin)

    def _pin(self) -> str | None:
        return get_pin_and_cookie_name(self._app)[0]

    def _proof(self, pin: str, since: str) -> str:
        return hash_pin(f"{pin} {since} inspector")


def _digits(pin: str) -> str:
    return pin.strip().replace("-", "")
