"""Views: the inspector's URLs: its page, the PIN, the state, and a stream of every change."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from importlib import resources

from flask import Blueprint, Response, abort, jsonify, request

from pgevents_push.event import CHANGE_TYPES, ChangeEvent, Gap
from pgevents_push.extension import Runtime
from pgevents_push.hub import View
from pgevents_push.inspector.guard import Guard
from pgevents_push.inspector.picture import picture
from pgevents_push.transports.change_json import change_json
from pgevents_push.transports.sse import HEADERS, MIMETYPE, Stream
from pgevents_push.transports.sse_format import encode_json, frame

# The page needs nothing but its own files and streams, and no other page may frame it.
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_PAGE_HEADERS = {
    "Content-Security-Policy": f"{_POLICY}; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


def add_inspector(blueprint: Blueprint, runtime: Callable[[], Runtime]) -> None:
    """Add the routes to a blueprint.

    :param runtime: returns the current app's runtime.
    """

    guards: weakref.WeakKeyDictionary[Runtime, Guard] = weakref.WeakKeyDictionary()

    def guard() -> Guard:
        """Return who decides; where there is no inspector, nothing tells it from an unknown URL."""
        here = runtime()
        found = guards.setdefault(here, Guard(here.app, here.config.inspector))
        return found if found.is_there(request) else abort(404)

    def here() -> Runtime:
        """Return the runtime, to who may look."""
        return runtime() if guard().may_look(request) else abort(401)

    def page() -> Response:
        guard().tell()
        text = resources.files("pgevents_push.inspector").joinpath("page.html").read_text(encoding="utf-8")
        return Response(text, mimetype="text/html", headers=_PAGE_HEADERS)

    def pin() -> Response:
        answer = guard().attempt(request.form.get("pin", ""))
        response = jsonify(answer._asdict())
        return guard().admit(request, response) if answer.auth else response

    def state() -> Response:
        response = jsonify(picture(here()))
        response.headers["Cache-Control"] = "no-store"
        return response

    def stream() -> Response:
        return _stream(here())

    blueprint.add_url_rule("/inspector", "inspector", page)
    blueprint.add_url_rule("/inspector/pin", "inspector_pin", pin, methods=["POST"])
    blueprint.add_url_rule("/inspector/state", "inspector_state", state)
    blueprint.add_url_rule("/inspector/stream", "inspector_stream", stream)


def _stream(runtime: Runtime) -> Response:
    """Answer with every change of every table, whole: what is exposed to whom does not matter here."""
    every = frozenset(CHANGE_TYPES)
    views = [View(table, every, None, None, _encode) for table in runtime.tables]
    named = request.headers.get("Last-Event-ID")
    place = runtime.places.take("sse", request.remote_addr)
    stream = Stream(runtime.hub, views, runtime.config, None, runtime.replay.page, named, place)
    return Response(stream, mimetype=MIMETYPE, headers=HEADERS)


def _encode(event: ChangeEvent | Gap, view: View) -> bytes | None:
    """As format=json, and who wrote it."""
    data = None if isinstance(event, Gap) else change_json(event, view)
    if isinstance(event, Gap) or data is None or event.actor_text is None:
        return encode_json(event, view)
    with_actor = f'{data[:-1]},"actor":{json.dumps(dict(event.actor), default=str)}}}'
    return frame(with_actor, event=event.type, cursor=event.cursor)
