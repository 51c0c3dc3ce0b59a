"""What is kept of a handshake, and what later requests in its name see."""

from __future__ import annotations

import io
import socket
import sys
from typing import Any

import pytest
from flask import Flask, Response, redirect, request
from werkzeug.test import create_environ

from pgevents_push.errors import Forbidden, Unauthorized
from pgevents_push.transports.ws_caller import Caller


def environ_of(**more: Any) -> dict[str, Any]:
    return {**create_environ("/ws?a=%C3%A4%00", headers={"Cookie": "session=abc", "X-User": "ann"}), **more}


def test_later_requests_are_the_same_callers_and_each_is_new() -> None:
    app, thing = Flask(__name__), object()
    environ = environ_of(**{"some.middleware": thing, "wsgi.input": io.BytesIO(b"body"), "CONTENT_LENGTH": "4"})
    caller = Caller(app, environ)
    for _ in range(2):
        with caller.request():
            assert (request.args["a"], request.cookies["session"], request.headers["X-User"]) == ("ä\0", "abc", "ann")
            assert request.data == b""
            assert request.environ["some.middleware"] is thing
            request.environ["HTTP_X_USER"] = "bob"


def test_nothing_of_the_servers_is_kept() -> None:
    ours, theirs = socket.socketpair()
    names = ("werkzeug.socket", "gunicorn.socket", "gunicorn.sock", "wsgi.early_hints", "wsgi.input")
    environ = environ_of(**dict.fromkeys(names, ours))
    with Flask(__name__).request_context(environ):
        caller = Caller(Flask(__name__), environ)
    before = sys.getrefcount(ours)
    environ.clear()
    assert sys.getrefcount(ours) == before - len(names)
    assert ours not in caller.environ.values()
    assert "werkzeug.request" not in caller.environ
    ours.close()
    theirs.close()


class Odd(str):
    """As some middleware has them: JSON would not keep its class."""


def test_odd_values_and_names_are_kept_as_they_are() -> None:
    environ = Caller(Flask(__name__), environ_of(odd=Odd("x"), surrogate="\udcff", **{Odd("key"): "y"})).environ
    assert type(environ["odd"]) is Odd
    assert (environ["surrogate"], environ["key"]) == ("\udcff", "y")


@pytest.mark.parametrize(
    ("answer", "error"),
    [(Response(status=401), Unauthorized), (redirect("/login"), Unauthorized), (Response(status=200), Forbidden)],
)
def test_before_request_may_refuse_and_contexts_are_torn_down(answer: Response, error: type[Exception]) -> None:
    app, torn = Flask(__name__), []
    app.teardown_appcontext(lambda failure: torn.append(failure))
    caller = Caller(app, environ_of())
    with caller.request():
        pass
    app.before_request(lambda: answer)
    with pytest.raises(error), caller.request():
        raise AssertionError("refused")
    assert len(torn) == 2


def test_a_caller_is_small() -> None:
    """As a dict of texts it would be several kilobytes, for each of ten thousand sockets."""
    caller = Caller(Flask(__name__), environ_of())
    size = sys.getsizeof(caller) + sys.getsizeof(caller._packed) + sys.getsizeof(caller._others)
    assert size < 2500
