"""Peer servers: starts those of `peers/` that this machine has, on the first core; says what the others lack."""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from tests.bench.native import PATIENCE_SECONDS
from tests.bench.pinning import pin_app, pin_rest
from tests.fixtures.servers import ROOT, free_port, python

_HERE = Path(__file__).parent / "peers"
_NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_NPM = f"npm ci --ignore-scripts --prefix {_HERE.relative_to(ROOT)}"


class Peer:
    """A running one.

    :param process: the server; its children, if it has some, are counted with it.
    """

    def __init__(self, process: psutil.Process, port: int) -> None:
        self.port = port
        self._process = process
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

    def pin(self) -> None:
        pin_app([process.pid for process in self._all()])

    @property
    def cpu(self) -> float:
        times = [process.cpu_times() for process in self._all()]
        return sum(each.user + each.system for each in times)

    def publish(self, text: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request("POST", "/publish", text.encode(), {"Content-Type": "text/plain", **named})
        answer = self._connection.getresponse()
        answer.read()
        assert answer.status < 300, answer.status

    def hang_up(self) -> None:
        """The next one to publish comes by a new connection: servers end those that say nothing for some seconds."""
        self._connection.close()

    def close(self) -> None:
        self.hang_up()
        for process in self._all():
            process.kill()

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


Start = Callable[[ExitStack, int], list[str]]


class Kind:
    """One that may be there.

    :param start: prepares what it needs and returns its command.
    :param lacks: says what is not installed, or nothing.
    :param how: of the clients, see load.c.
    :param target: what they ask for.
    """

    def __init__(
        self, name: str, start: Start, lacks: Callable[[], str], how: str = "read", target: str = "/stream"
    ) -> None:
        self.name, self.how, self.target, self.lacks = name, how, target, lacks
        self._start = start

    @contextmanager
    def running(self) -> Iterator[Peer]:
        with ExitStack() as stack:
            port = free_port()
            process = _spawn(stack, self._start(stack, port))
            peer = Peer(psutil.Process(process.pid), port)
            stack.callback(peer.close)
            _until_open(process, port)
            peer.pin()
            yield peer


def _spawn(stack: ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
    runs = python("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *command)
    # What they complain of when they are killed, one for each of a thousand clients, is of no use.
    process = subprocess.Popen(runs, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.connect()
            return connection.close()
        except OSError:
            assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{process.args!r} does not listen"
            time.sleep(0.05)


# --- How each is started


def _gunicorn(app: str, worker: str = "gevent") -> Start:
    def start(stack: ExitStack, port: int) -> list[str]:
        options = ["--worker-connections", "25000", "--backlog", "4096", "--no-control-socket"]
        return [
            *python("-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-k", worker, *options, f"tests.bench.peers.{app}")
        ]

    return start


def _flask_sse(stack: ExitStack, port: int) -> list[str]:
    redis = free_port()
    place = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgevents-redis-"))
    store = _spawn(stack, ["redis-server", "--port", str(redis), "--save", "", "--dir", place, "--maxclients", "30000"])
    _until_open(store, redis)
    pin_rest([store.pid])
    return ["env", f"REDIS_URL=redis://127.0.0.1:{redis}", *_gunicorn("flask_sse_app:app")(stack, port)]


def _uvicorn(*app: str) -> Start:
    options = ["--backlog", "4096", "--log-level", "warning"]
    return lambda stack, port: python("-m", "uvicorn", "--port", str(port), *options, *app)


def _eventstream(stack: ExitStack, port: int) -> list[str]:
    settings = "DJANGO_SETTINGS_MODULE=tests.bench.peers.eventstream_settings"
    return ["env", settings, *_uvicorn("--factory", "django.core.asgi:get_asgi_application")(stack, port)]


def _nchan(stack: ExitStack, port: int) -> list[str]:
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgevents-nchan-")))
    text = (_HERE / "nchan.conf").read_text().replace("{place}", str(place)).replace("{port}", str(port))
    (place / "conf").write_text(f"load_module {_NCHAN};\n{text}")
    return ["nginx", "-c", str(place / "conf"), "-p", str(place), "-e", str(place / "error.log")]


def _node(script: str) -> Start:
    return lambda stack, port: ["node", str(_HERE / script), str(port)]


# --- What each needs


def _lacks_program(name: str, package: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    return "" if shutil.which(name, path=path) else f"no {name}: apt install {package}"


def _lacks_modules(*names: str) -> str:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return f"no {', '.join(missing)}: pip install '.[peers]'" if missing else ""


def _lacks_package(name: str) -> str:
    return _lacks_program("node", "nodejs") or (
        "" if (_HERE / "node_modules" / name).is_dir() else f"no {name}: {_NPM}"
    )


def _lacks_nchan() -> str:
    return _lacks_program("nginx", "nginx") or ("" if _NCHAN.exists() else "no nchan: apt install libnginx-mod-nchan")


def _lacks_flask_sse() -> str:
    return _lacks_modules("flask_sse") or _lacks_program("redis-server", "redis-server")


KINDS = (
    Kind("nchan EventSource", _nchan, _lacks_nchan),
    Kind("naive Flask, gunicorn gevent", _gunicorn("naive:app"), lambda: ""),
    Kind("Flask-SSE with Redis, gunicorn gevent", _flask_sse, _lacks_flask_sse),
    Kind(
        "sse-starlette, uvicorn",
        _uvicorn("tests.bench.peers.starlette_app:app"),
        lambda: _lacks_modules("sse_starlette", "uvicorn"),
    ),
    Kind("django-eventstream, uvicorn", _eventstream, lambda: _lacks_modules("django_eventstream", "uvicorn")),
    Kind(
        "Flask-SocketIO, gunicorn with gevent-websocket",
        _gunicorn("socketio_app:app", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"),
        lambda: _lacks_modules("flask_socketio", "geventwebsocket"),
        "sio",
        "/socket.io/?EIO=4&transport=websocket",
    ),
    Kind("better-sse, node", _node("better_sse.mjs"), lambda: _lacks_package("better-sse")),
    Kind("ws, node", _node("ws.mjs"), lambda: _lacks_package("ws"), "ws"),
    Kind("uWebSockets.js, topic over WebSocket", _node("uws.mjs"), lambda: _lacks_package("uwebsockets"), "ws"),
)
