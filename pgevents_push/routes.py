"""The routes below /pgevents: stream, ws, health and static files."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flask import Blueprint, Response, current_app, jsonify, request

from pgevents_push import waiting
from pgevents_push.errors import RequestError, ServerError, Unavailable, UpgradeRequired
from pgevents_push.extension import Runtime
from pgevents_push.hub import Hub
from pgevents_push.transports.problem import problem
from pgevents_push.transports.sse import open_stream
from pgevents_push.transports.ws import WebSocketEndpoint
from pgevents_push.transports.ws_handshake import websocket_view

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2


def add_routes(blueprint: Blueprint, runtime: Callable[[], Runtime]) -> None:
    """Add the routes to a blueprint.

    :param runtime: returns the current app's runtime.
    """

    def stream() -> Response:
        return open_stream(request, _hub(runtime()), runtime().replay.page, runtime().gate, runtime().config)

    def health() -> Response:
        report = runtime().report()
        response = jsonify(report)
        response.status_code = 200 if report["status"] == "listening" else 503
        response.headers["Cache-Control"] = "no-store"
        return response

    def endpoint() -> WebSocketEndpoint:
        here = runtime()
        return WebSocketEndpoint(
            hub=lambda: _hub(here),
            recall=lambda since, until: here.replay.page(since, until),
            gate=here.gate,
            settings=here.config,
            release=_release_database,
        )

    socket = websocket_view(
        serve=lambda connection: endpoint().serve(connection),
        check=lambda: endpoint().check() or _refusal(runtime()),
        settings=lambda: runtime().config,
    )
    blueprint.add_url_rule("/stream", "stream", stream)
    blueprint.add_url_rule("/health", "health", health)
    blueprint.add_url_rule("/ws", "ws", socket, websocket=True)
    blueprint.add_url_rule("/ws", "no_ws", _no_websocket)
    blueprint.register_error_handler(RequestError, problem)


def _hub(runtime: Runtime) -> Hub:
    """Return the hub of this process.

    :raises Unavailable: this server cannot hold a stream open, or the process is stopping.
    """
    software = str(request.environ.get("SERVER_SOFTWARE", ""))
    if software.startswith("gevent/") and not waiting.cooperative():
        # One waiting stream would freeze the whole process, without a word.
        detail = "gevent serves this app, but is not patched: call gevent.monkey.patch_all() before all other imports."
        log.error("%s", detail)
        raise Unavailable(detail)
    try:
        return runtime.hub
    except ServerError as error:
        raise Unavailable(str(error), retry_after=RETRY_AFTER_SECONDS) from None


def _refusal(runtime: Runtime) -> Response | None:
    try:
        _hub(runtime)
    except Unavailable as error:
        return problem(error)
    return None


def _no_websocket() -> Response:
    refused = problem(UpgradeRequired())
    refused.headers["Upgrade"] = "websocket"
    return refused


def _release_database() -> None:
    """Give back the database connection that this request has taken, to look up its user for example."""
    extension = current_app.extensions.get("sqlalchemy")
    if extension is not None:
        extension.session.remove()
