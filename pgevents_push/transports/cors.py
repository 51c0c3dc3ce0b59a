"""Cross-origin: which pages may ask at all, and what lets those of the allowed origins read the answers (Fetch, CORS).

Browsers send a user's cookies with requests that any page makes. For EventSource and fetch they then keep the answer
from the page unless CORS headers allow it; for a WebSocket they do not. So both are refused before anything happens.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from flask import Blueprint, Flask, Request, Response, request

from pgevents_push.config import Config
from pgevents_push.errors import Forbidden

log = logging.getLogger(__name__)

PREFLIGHT_SECONDS = 600
MOST_TOLD = 100  # origins in the log: whoever likes can invent a million
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+( *, *[A-Za-z0-9-]+){0,19}")


@dataclass(frozen=True)
class Asking:
    """What browsers say of the page that asks; pages cannot change it. All None and False: no browser, or an old one.

    :param site: Sec-Fetch-Site (Fetch Metadata): how the page's site and ours are related.
    :param by_hand: the user opened this address in a window of its own.
    """

    origin: str | None = None
    site: str | None = None
    by_hand: bool = False
    websocket: bool = False
    with_cookies: bool = False


def may_ask(asking: Asking, own: str, allowed: tuple[str, ...]) -> bool:
    """Whether this page may ask.

    :param own: the scheme, host and port under which the client reached us.
    """
    if asking.origin is not None:
        # "null" is any page in a sandboxed frame. An origin that is merely listed may not pass as our own, nor the
        # other way round: texts are compared, nothing is parsed.
        return asking.origin != "null" and asking.origin in (own, *allowed)
    if asking.websocket and asking.with_cookies:
        return False  # a browser has an origin; something on the way took it
    return asking.site in (None, "same-origin", "none") or asking.by_hand


def asking_now(asked: Request) -> Asking:
    """Return what a request says of its page."""
    headers = asked.headers
    by_hand = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    websocket = headers.get("Upgrade", "").lower() == "websocket"
    return Asking(headers.get("Origin"), headers.get("Sec-Fetch-Site"), by_hand, websocket, "Cookie" in headers)


def guard(routes: Blueprint | Flask, settings: Callable[[], Config]) -> None:
    """Refuse the pages of other origins on all routes but the static files, and tell browsers which may read.

    :param settings: the settings of the current app.
    """

    told: set[str | None] = set()

    def refuse() -> None:
        if not (request.endpoint or "").endswith(".static"):
            refuse_foreign_page(settings(), told)

    def allow(response: Response) -> Response:
        return allow_to_read(response, settings())

    routes.before_request(refuse)
    routes.after_request(allow)


def refuse_foreign_page(settings: Config, told: set[str | None]) -> None:
    """Refuse the current request when a page of a foreign origin makes it.

    The app's own origin is what Flask sees: behind a proxy, ProxyFix must tell it the outer scheme and host.

    :param told: the origins that the log knows already.
    :raises Forbidden: it does.
    """
    own, asking = f"{request.scheme}://{request.host}", asking_now(request)
    if may_ask(asking, own, settings.allowed_origins):
        return
    if asking.origin not in told and len(told) < MOST_TOLD:
        told.add(asking.origin)
        log.warning(
            "refused pages of origin %.200r (%.20r), which is neither %.200r nor in PGEVENTS_ALLOWED_ORIGINS",
            asking.origin, asking.site, own,
        )  # fmt: skip
    raise Forbidden("Pages of this origin may not ask here: PGEVENTS_ALLOWED_ORIGINS names others.")


def allow_to_read(response: Response, settings: Config) -> Response:
    """Add what lets a page of an allowed origin read this answer, errors included."""
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if origin in settings.allowed_origins:
        headers = response.headers
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"
        headers["Access-Control-Expose-Headers"] = "Retry-After"
        if "Access-Control-Request-Method" in request.headers:
            _answer_preflight(response)
    return response


def _answer_preflight(response: Response) -> None:
    """Allow whatever header the page needs, for its token: the origin is one that the app trusts."""
    headers = response.headers
    headers["Access-Control-Allow-Methods"] = "GET, HEAD, OPTIONS"
    headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if _HEADER_NAMES.fullmatch(wanted):
        headers["Access-Control-Allow-Headers"] = wanted
