"""The WebSocket handshake: refuses what must not pass, then lets flask-sock do it on a guarded socket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask_sock import Sock
from wsproto.utilities import RemoteProtocolError

from pgevents_push.config import Config
from pgevents_push.errors import BadParameter, RequestError, Unavailable
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.problem import problem
from pgevents_push.transports.ws_protocol import CloseCode
from pgevents_push.transports.ws_socket import GuardedSocket, SafeWebSocket

log = logging.getLogger(__name__)

# Where servers put the connection; gevent.pywsgi has it inside of wsgi.input.
_SOCKET_KEYS = ("werkzeug.socket", "gunicorn.socket")
_VISIT = "pgevents.visit"  # which ws_caller.py does not keep


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
    enter: Callable[[], Visit],
    serve: Callable[[SafeWebSocket, Visit], None],
    settings: Callable[[], Config],
) -> Callable[[], Response]:
    """Return the view of a WebSocket route; register it with `websocket=True`.

    :param enter: looks at the request before the handshake; it may raise a RequestError.
    :param serve: runs the connection; when it returns, the connection ends, or was handed over.
    :param settings: the settings of the current app.
    """
    recorder = _Recorder()
    # flask-sock's view hands on no more than its own object; the request knows whose it is.
    Sock().route("/", bp=recorder)(lambda server: _serve_safely(serve, server, request.environ[_VISIT], settings()))

    def websocket() -> Response:
        try:
            visit = enter()
        except RequestError as error:
            return problem(error)
        request.environ[_VISIT] = visit
        try:
            return _shake_hands(recorder.view, settings())
        finally:
            del request.environ[_VISIT]
            visit.end_with_request()

    return websocket


def _shake_hands(view: Callable[[], Response], settings: Config) -> Response:
    if not guard_environ(request.environ, settings):
        return problem(Unavailable("This server offers no WebSocket: see the README, Deploying."))
    try:
        return view()
    except (RemoteProtocolError, UnicodeError) as error:  # simple-websocket would let it become a 500
        return problem(BadParameter(f"This is no WebSocket handshake: {error}"))


def _serve_safely(serve: Callable[[SafeWebSocket, Visit], None], server: Any, visit: Visit, settings: Config) -> None:
    connection = SafeWebSocket(server, settings.max_message_bytes)
    try:
        serve(connection, visit)
    except OSError as error:  # the client left, or took nothing until the deadline
        log.info("a WebSocket client was dropped: %s", error)
    except Exception:
        log.exception("a WebSocket connection failed")
        connection.close(CloseCode.FAILED, "internal error")
    finally:
        connection.drop()


def guard_environ(environ: dict[str, Any], settings: Config) -> bool:
    """Put a guarded socket where simple-websocket will look for the server's, and refuse compression.

    Return False when the server shows no socket.
    """
    environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)
    limits = (settings.send_timeout_seconds, settings.max_message_bytes)
    for key in _SOCKET_KEYS:
        if key in environ:
            environ[key] = GuardedSocket(environ[key], *limits, may_be_given=key == "gunicorn.socket")
            return True
    stream = environ["wsgi.input"]
    raw = getattr(stream, "raw", None) or getattr(getattr(stream, "rfile", None), "raw", None)
    sock = getattr(raw, "_sock", None)
    if sock is None or not environ.get("SERVER_SOFTWARE", "").startswith("gevent"):
        return False
    environ["wsgi.input"] = _Input(GuardedSocket(sock, *limits, may_be_given=True))
    return True
