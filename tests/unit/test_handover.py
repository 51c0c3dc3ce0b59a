"""What is known of the servers, and the sink that they keep; the hand-over itself is tested with real servers."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from gevent.pywsgi import WSGIHandler
from gunicorn.http.wsgi import Response as GunicornResponse
from gunicorn.http2.response import HTTP2Response
from gunicorn.workers.ggevent import PyWSGIHandler

from pgevents_push.transports.framing import Framing
from pgevents_push.transports.handover import Handover, Outlet, Sink


def gunicorn(version: tuple[int, int] = (1, 1), *more: tuple[str, str]) -> Any:
    """A canary: these are gunicorn's own class and attributes."""
    request = SimpleNamespace(version=version, method="GET", should_close=lambda: False)
    response = GunicornResponse(request, SimpleNamespace(sendall=lambda data: None), SimpleNamespace())
    response.start_response("200 OK", [("Content-Type", "text/event-stream"), *more])
    return response


def pywsgi(kind: Any = WSGIHandler, version: str = "HTTP/1.1", *more: tuple[str, str]) -> Any:
    """The same for gevent's."""
    handler = kind.__new__(kind)
    handler.socket = SimpleNamespace(sendall=lambda data: None)
    handler.request_version, handler.headers_sent, handler.response_length = version, False, 0
    handler.close_connection, handler.result = True, iter(())
    handler.response_use_chunked = False
    handler.start_response("200 OK", [("Content-Type", "text/event-stream"), *more])
    return handler


@pytest.mark.parametrize(
    ("server", "chunked"),
    [
        (gunicorn(), True),
        (gunicorn((1, 0)), False),
        (pywsgi(), True),
        (pywsgi(PyWSGIHandler), True),
        (pywsgi(WSGIHandler, "HTTP/1.0"), False),
    ],
)
def test_what_is_written_is_counted_as_each_server_does(server: Any, chunked: bool) -> None:
    outlet = Outlet.of(server.write)
    assert outlet is not None
    server.write(b"the first chunk comes with the headers")
    assert outlet.framing == Framing(chunked)
    before = outlet.written
    for chunk in (b"a", b"x" * 1000):
        server.write(chunk)
        before += outlet.cost(chunk)
        assert outlet.written == before
    assert not outlet.is_encoded


@pytest.mark.parametrize("header", ["Content-Encoding", "content-length"])
def test_a_body_that_is_promised_in_another_form_is_noticed(header: str) -> None:
    for server in (gunicorn((1, 1), (header, "10")), pywsgi(WSGIHandler, "HTTP/1.1", (header, "10"))):
        outlet = Outlet.of(server.write)
        assert outlet is not None
        assert outlet.is_encoded


class OwnHandler(WSGIHandler):
    """May write in its own way."""


def test_others_are_not_known() -> None:
    http2 = HTTP2Response.__new__(HTTP2Response)
    others: list[Any] = [print, lambda data: None, None, http2.write, pywsgi(OwnHandler).write, [1].append]
    for write in others:
        assert Outlet.of(write) is None


def test_without_an_exchange_nothing_is_handed_over() -> None:
    handover = Handover(None)
    handover.meet(gunicorn().write)
    for _ in range(3):
        handover.note(b"x")
    assert handover.give(None, [], print) is False  # type: ignore[arg-type]


# --- The sink


@pytest.fixture
def sink() -> Any:
    one = Sink()
    yield one
    one.close()


def replaced(sink: Sink) -> tuple[socket.socket, socket.socket]:
    """A server's end of a connection after its hand-over, and the client's."""
    server, client = socket.socketpair()
    sink.replace(server.fileno())
    return server, client


def test_what_a_server_writes_vanishes_and_what_it_reads_is_the_end(sink: Sink) -> None:
    server, client = replaced(sink)
    with server, client:
        server.sendall(b"0\r\n\r\n")
        assert server.recv(100) == b""
        assert client.recv(100) == b"", "the connection had one descriptor, and lost it"


def test_it_never_fills_up(sink: Sink) -> None:
    for _ in range(3000):
        server, client = replaced(sink)
        server.sendall(b"x" * 100)
        server.close()
        client.close()


def test_a_server_that_shuts_its_end_harms_none_that_follow(sink: Sink) -> None:
    """gunicorn does that when its access log fails."""
    server, client = replaced(sink)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    client.close()
    server, client = replaced(sink)
    with server, client:
        server.sendall(b"0\r\n\r\n")
