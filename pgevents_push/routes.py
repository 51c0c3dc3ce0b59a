"""The routes below /pgevents: stream, snapshot, ws, health, metrics and static files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from flask import Blueprint, Response, abort, current_app, jsonify, request

from pgevents_push import waiting
from pgevents_push.errors import RequestError, ServerError, Unavailable, UpgradeRequired
from pgevents_push.extension import Runtime
from pgevents_push.hub import Hub
from pgevents_push.transports.cors import guard
from pgevents_push.transports.entrance import Visit
from pgevents_push.transports.exposition import CONTENT_TYPE, exposition
from pgevents_push.transports.problem import problem
from pgevents_push.transports.snapshot import open_snapshot
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
        here, hub = runtime(), _hub(runtime())
        take = here.snapshots.take
        with here.entrance.enter(request, "sse") as visit:
            return open_stream(
                request, hub, here.replay.page, take, here.gate, here.fragments, here.config, visit, here.exchange
            )

    def snapshot() -> Response:
        here, hub = runtime(), _hub(runtime())
        take, release = here.snapshots.take, _release_database
        with here.entrance.enter(request, "snapshot") as visit:
            return open_snapshot(request, hub, take, here.gate, here.config, visit, release)

    def health() -> Response:
        report = runtime().report()
        # As gunicorn's sync worker, or werkzeug without threads; gevent's servers say that they have threads.
        alone = not request.environ.get("wsgi.multithread") and not waiting.cooperative()
        response = jsonify(report | ({"one_at_a_time": True} if alone else {}))
        response.status_code = 200 if report["status"] == "listening" else 503
        response.headers["Cache-Control"] = "no-store"
        return response

    def metrics() -> Response:
        here = runtime()
        if not here.config.metrics:
            abort(404)  # as where there is no such route
        text = exposition(here.measures(), {"pid": str(os.getpid())})
        return Response(text, content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    def endpoint() -> WebSocketEndpoint:
        here = runtime()
        if here.sockets is None:  # one for all sockets: each that was handed over keeps it
            here.sockets = WebSocketEndpoint(
                hub=lambda: here.hub,
                recall=lambda since, until: here.replay.page(since, until),
                take=lambda views, limit, reading: here.snapshots.take(views, limit, reading),
                gate=lambda: here.gate,
                settings=here.config,
                release=_release_database,
                exchange=lambda: here.exchange,
            )
        return here.sockets

    def enter_with_socket() -> Visit:
        _hub(runtime())
        return runtime().entrance.enter(request, "websocket")

    socket = websocket_view(
        enter=enter_with_socket,
        serve=lambda connection, visit: endpoint().serve(connection, visit),
        settings=lambda: runtime().config,
    )
    guard(blueprint, lambda: runtime().config)
    blueprint.add_url_rule("/stream", "stream", stream)
    blueprint.add_url_rule("/snapshot", "snapshot", snapshot)
    blueprint.add_url_rule("/health", "health", health)
    blueprint.add_url_rule("/metrics", "metrics", metrics)
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


def _no_websocket() -> Response:
    refused = problem(UpgradeRequired())
    refused.headers["Upgrade"] = "websocket"
    return refused


def _release_database() -> None:
    """Give back the database connection that this request has taken, to look up its user for example."""
    extension = current_app.extensions.get("sqlalchemy")
    if extension is not None:
        extension.session.remove()
