"""Who shook hands: what later requests in the name of a WebSocket's client are made of."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, request

from pgevents_push.errors import Forbidden, Unauthorized

# What is the server's, and of the handshake's own request: none of it may live as long as the socket.
_NOT_KEPT = ("werkzeug.socket", "gunicorn.socket", "gunicorn.sock", "werkzeug.request", "pgevents.visit")
# Of what is the server's own; the rest are its body, and functions that hold all of it (gunicorn's wsgi.early_hints).
_OF_WSGI = ("wsgi.version", "wsgi.errors", "wsgi.file_wrapper")
# As a dict of texts it would be 5 kB, for each client that is connected.
_PACKED = (str, bool, int, type(None))


class Caller:
    """The same caller, as often as wanted; no body, no socket."""

    __slots__ = ("_app", "_others", "_packed")

    def __init__(self, app: Flask, environ: dict[str, Any]) -> None:
        packed = {key: value for key, value in environ.items() if type(key) is str and type(value) in _PACKED}
        others = {key: value for key, value in environ.items() if key not in packed and key not in _NOT_KEPT}
        self._app, self._packed = app, json.dumps(packed)
        self._others = {key: value for key, value in others.items() if key[:5] != "wsgi." or key in _OF_WSGI}

    @property
    def environ(self) -> dict[str, Any]:
        """The environ of one more request."""
        return {**json.loads(self._packed), **self._others, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}

    @contextmanager
    def request(self) -> Iterator[None]:
        """Run something as in a fresh request: what it takes, a database session above all, is given back at once, and
        it sees what the app's own before_request functions prepare.

        :raises Unauthorized: one of these asks who the caller is.
        :raises Forbidden: one of these answers in the place of whatever was asked.
        """
        app = self._app
        with app.app_context(), app.request_context(self.environ):
            for scope in (None, *reversed(request.blueprints)):
                for function in app.before_request_funcs.get(scope, ()):
                    answer = app.ensure_sync(function)()
                    if answer is not None:
                        status = app.make_response(answer).status_code
                        # A redirect leads to a login page, as far as a socket is concerned.
                        raise Unauthorized if status == 401 or 300 <= status < 400 else Forbidden
            yield
