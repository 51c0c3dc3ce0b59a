"""The WebSocket handshake: refuses what must not pass, then lets flask-sock do it on a guarded socket."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask_sock import Sock
from wsproto.utilities import RemoteProtocolError

from pgevents_push.config import Config
from pgevents_push.errors import BadParameter, Forbidden, Unavailable
from pgevents_push.transports.problem import problem
from pgevents_push.transports.ws_protocol import CloseCode, origin_allowed
from pgevents_push.transports.ws_socket import GuardedSocket, SafeWebSocket

log = logging.getLogger(__name__)

# Where servers put the connection; gevent.pywsgi has it inside of wsgi.input.
_SOCKET_KEYS = ("werkzeug.socket", "gunicorn.socket")


class _Recorder:
    """Stands in for a blueprint, to get the view that flask-sock builds without its route."""

    view: Callable[[], Response]

    def route(self, path: str, **options: object) -> Callable[[Callable[[], Response]], None]:
        def keep(view: Callable[[], Response]) -> None:
            self.view = view

        return keep


class _Input:
    """Stands in for gevent.pywsgi's `wsgi.input`, where simple-websocket looks for `raw._sock`."""

    def __init__(self, guard: GuardedSocket) -> None:
        self.raw = self
        self._sock = guard


def websocket_view(
    serve: Callable[[SafeWebSocket], None],
    check: Callable[[], Response | None],
    settings: Callable[[], Config],
) -> Callable[[], Response]:
    """Return the view of a WebSocket route; register it with `websocket=True`.

    :param serve: runs the connection; when it returns, the connection ends.
    :param check: looks at the request before the handshake and may refuse it with a response.
    :param settings: the settings of the current app.
    """
    recorder = _Recorder()
    Sock().route("/", bp=recorder)(lambda server: _serve_safely(serve, server, settings()))

    def websocket() -> Response:
        return check() or _shake_hands(recorder.view, settings())

    return websocket


def _shake_hands(view: Callable[[], Response], settings: Config) -> Response:
    if not guard_environ(request.environ, settings):
        return problem(Unavailable("This server offers no WebSocket: see the README, Deploying."))
    try:
        return view()
    except RemoteProtocolError as error:  # simple-websocket would let it become a 500
        return problem(BadParameter(f"This is no WebSocket handshake: {error}"))


def _serve_safely(serve: Callable[[SafeWebSocket], None], server: Any, settings: Config) -> None:
    connection = SafeWebSocket(server, settings.max_message_bytes)
    try:
        serve(connection)
    except OSError as error:  # the client left, or took nothing until the deadline
        log.info("a WebSocket client was dropped: %s", error)
    except Exception:
        log.exception("a WebSocket connection failed")
        connection.close(CloseCode.FAILED, "internal error")
    finally:
        connection.drop()


def refuse_foreign_origin(settings: Config) -> Response | None:
    """Return a 403 when the page that opens this socket is of another origin. Without this, any page that a
    user visits could open one with the user's cookies and read along.

    The app's own origin is what Flask sees: behind a proxy, ProxyFix must tell it the outer scheme and host.
    """
    own, origin = f"{request.scheme}://{request.host}", request.headers.get("Origin")
    if origin_allowed(origin, own, settings.allowed_origins):
        return None
    log.warning("WebSocket refused: origin %.200r is neither %s nor in PGEVENTS_ALLOWED_ORIGINS", origin, own)
    return problem(Forbidden("This origin may not open a WebSocket here: PGEVENTS_ALLOWED_ORIGINS names others."))


def guard_environ(environ: dict[str, Any], settings: Config) -> bool:
    """Put a guarded socket where simple-websocket will look for the server's, and refuse compression.

    Return False when the server shows no socket.
    """
    environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    limits = (settings.send_timeout_seconds, settings.max_message_bytes)
    for key in _SOCKET_KEYS:
        if key in environ:
            environ[key] = GuardedSocket(environ[key], *limits)
            return True
    stream = environ["wsgi.input"]
    raw = getattr(stream, "raw", None) or getattr(getattr(stream, "rfile", None), "raw", None)
    sock = getattr(raw, "_sock", None)
    if sock is None or not environ.get("SERVER_SOFTWARE", "").startswith("gevent"):
        return False
    environ["wsgi.input"] = _Input(GuardedSocket(sock, *limits))
    return True


def without_socket(environ: dict[str, Any]) -> dict[str, Any]:
    """Return the environ of the handshake for further requests in its name: same caller, no body, no socket."""
    kept = {key: value for key, value in environ.items() if key not in (*_SOCKET_KEYS, "gunicorn.sock")}
    return {**kept, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
