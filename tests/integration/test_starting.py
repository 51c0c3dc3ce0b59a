"""Who listens and who does not, under real servers: each serving process by itself, and no other one ever."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.web import Stream

ROOT = Path(__file__).parents[2]
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s"
SECONDS = 30
GRACEFUL_SECONDS = 20  # so long gunicorn waits for a worker whose streams do not end

APP = """
import os, sys
from flask import Flask
from pgevents_push import events, expose, on_insert, pgevents_bp

app = Flask(__name__)
app.config.update(PGEVENTS_DATABASE_URL=os.environ["DATABASE"], PGEVENTS_POLL_SECONDS=0.2)
app.register_blueprint(pgevents_bp)
expose("orders", columns="*", public=True)


@on_insert("orders")
def note(event):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{os.getpid()} {event.pk['id']}\\n")
"""
SERVE = """
from gevent.pywsgi import WSGIServer
WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
"""
PATCH = "from gevent import monkey\nmonkey.patch_all()\n"


class Place:
    """A folder with the app, a database with its table, and the processes that were started there."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.directory, self.database = directory, database
        self.notes = directory / "notes"
        self.errors = directory / "errors"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.streams: list[Stream] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        (directory / "shop_app.py").write_text(APP)
        database.execute("CREATE TABLE orders (id serial PRIMARY KEY)")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        with self.errors.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.directory,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def environment(self, **more: str) -> dict[str, str]:
        own = {"DATABASE": self.database.url, "NOTES": str(self.notes), "PYTHONPATH": str(ROOT)}
        return {**os.environ, **own, **more}

    def gunicorn(self, *arguments: str) -> subprocess.Popen[bytes]:
        # The control socket has one path for all gunicorns of a user: two test runs would fight for it.
        fixed = ("-m", "gunicorn", "-b", f"127.0.0.1:{self.port}", "--no-control-socket")
        return self.start(*fixed, *arguments, "shop_app:app")

    def flask(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start("-m", "flask", "--app", "shop_app", *arguments)

    def script(self, *parts: str) -> subprocess.Popen[bytes]:
        (self.directory / "script.py").write_text("\n".join(parts))
        return self.start("script.py", str(self.port))

    def pids(self) -> set[int]:
        """The processes whose handlers were called."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return {int(line.split()[0]) for line in lines}

    def until_heard_by(self, processes: int) -> set[int]:
        """Write rows until that many processes hear them; return which. Nobody sends a request."""
        deadline = time.monotonic() + SECONDS
        while len(pids := self.pids()) < processes:
            assert time.monotonic() < deadline, (pids, self.errors.read_text())
            assert self.processes[-1].poll() is None, self.errors.read_text()
            self.database.execute("INSERT INTO orders DEFAULT VALUES")
            time.sleep(0.05)
        return pids

    def until_listeners(self, count: int) -> None:
        wait_until(lambda: self.database.execute(LISTENERS, self.database.name) == [(count,)])

    def stream(self) -> Stream:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self.streams.append(Stream(self.port, "/pgevents/stream?table=orders"))
                return self.streams[-1]
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, self.errors.read_text()
                time.sleep(0.05)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        for process in self.processes:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def place(tmp_path: Path, database: Database) -> Iterator[Place]:
    place = Place(tmp_path, database)
    yield place
    place.close()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


# --- Those who serve


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["", "preload"])
@pytest.mark.parametrize("kind", [["-k", "gevent"], ["-k", "gthread", "--threads", "8"]], ids=["gevent", "gthread"])
def test_each_gunicorn_worker_listens_without_a_request_and_the_master_never(
    kind: list[str], preload: list[str], place: Place
) -> None:
    master = place.gunicorn("-w", "2", *kind, *preload)
    pids = place.until_heard_by(2)
    assert master.pid not in pids
    assert {parent_of(pid) for pid in pids} == {master.pid}
    place.until_listeners(2)
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)  # the master forks another one, which must listen as well
    assert len(place.until_heard_by(3)) == 3
    place.until_listeners(2)
    assert master.pid not in place.pids()


@pytest.mark.parametrize("arguments", [[], ["--debug"]], ids=["", "reloader"])
def test_flask_run_has_exactly_one_listener(arguments: list[str], place: Place) -> None:
    process = place.flask(*arguments, "run", "--port", str(place.port))
    [pid] = place.until_heard_by(1)
    place.until_listeners(1)
    assert (pid != process.pid) is bool(arguments)  # under the reloader the child serves
    place.stream().next("ready")
    assert place.pids() == {pid}
    place.until_listeners(1)


@pytest.mark.parametrize("patch", [PATCH, ""], ids=["pywsgi", "app.run"])
def test_a_script_that_serves_its_own_app_listens_without_a_request(patch: str, place: Place) -> None:
    place.script(patch, APP, SERVE if patch else "app.run(port=int(sys.argv[1]))")
    assert place.until_heard_by(1) == {place.processes[0].pid}
    place.until_listeners(1)
    place.stream().next("ready")


def test_a_script_that_imports_its_app_starts_with_events_start(place: Place) -> None:
    twice = ["events.start(app)"] * 2
    place.script(PATCH, "import sys", "from shop_app import app, events", *twice, SERVE)
    place.until_heard_by(1)
    place.until_listeners(1)


def test_a_script_that_imports_its_app_starts_with_the_first_request(place: Place) -> None:
    place.script(PATCH, "import sys", "from shop_app import app", SERVE)
    place.stream().next("ready")
    place.until_heard_by(1)


# --- Those who do not


@pytest.fixture
def nobody(place: Place) -> Iterator[Callable[[], int]]:
    """A database URL that only counts who connects; return how many did."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    count = 0

    def asked() -> int:
        nonlocal count
        with suppress(TimeoutError):
            while True:
                listening.accept()[0].close()
                count += 1
        return count

    place.database.dsn = {"host": "127.0.0.1", "port": str(listening.getsockname()[1]), "user": "u", "dbname": "d"}
    with listening:
        yield asked


@pytest.mark.parametrize(
    "command",
    [
        ["-c", "import shop_app"],
        ["-m", "flask", "--app", "shop_app", "routes"],
        ["-m", "flask", "--app", "shop_app", "shell"],
        ["-c", "from shop_app import app; app.test_client(); app.cli; app.app_context().push()"],
        ["-m", "gunicorn", "--check-config", "--preload", "shop_app:app"],
    ],
    ids=["import", "routes", "shell", "context", "check-config"],
)
def test_who_merely_imports_the_app_opens_no_connection(
    command: list[str], place: Place, nobody: Callable[[], int]
) -> None:
    process = place.start(*command)
    assert process.wait(SECONDS) == 0, place.errors.read_text()
    assert nobody() == 0


def test_gunicorns_master_with_preload_opens_no_connection(place: Place, nobody: Callable[[], int]) -> None:
    """No worker at all: whatever connects is the master."""
    place.gunicorn("-w", "0", "--preload", "-k", "gthread")
    wait_until(lambda: "Listening at" in place.errors.read_text(), SECONDS)
    assert nobody() == 0


def test_a_test_client_starts_nothing(place: Place, nobody: Callable[[], int]) -> None:
    body = "from shop_app import app; app.testing = True; app.test_client().get('/pgevents/health')"
    assert place.start("-c", body).wait(SECONDS) == 0, place.errors.read_text()
    assert nobody() == 0


# --- Servers that cannot


def test_an_unpatched_gevent_server_refuses_streams_and_says_why(place: Place) -> None:
    place.script("import sys", "from shop_app import app", SERVE)
    stream = place.stream()
    assert stream.response.status == 503
    assert stream.response.headers["Content-Type"] == "application/problem+json"
    assert "call gevent.monkey.patch_all()" in json.loads(stream.response.read())["detail"]
    assert "is not patched" in place.errors.read_text()


def test_a_sync_worker_is_warned_of_and_runs_handlers(place: Place) -> None:
    place.gunicorn("-k", "sync")
    place.until_heard_by(1)
    assert "sync worker serves one request at a time" in place.errors.read_text()


# --- Forks and ends


def test_a_fork_after_the_start_leaves_the_parents_connection_alive(place: Place) -> None:
    fork = """
import time
events.start(app)
events.start(app)
deadline = time.monotonic() + 60
while not os.path.exists(os.environ["NOTES"]):
    assert time.monotonic() < deadline
    time.sleep(0.02)
child = os.fork()
if child == 0:
    events.start(app)
    events.stop(app)
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
open(os.environ["NOTES"] + "-forked", "w").close()
time.sleep(60)
"""
    place.script(APP, fork)
    # Those that ask for columns come and go; the oldest one listens.
    backend = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s"
        " ORDER BY backend_start LIMIT 1"
    )
    [pid] = place.until_heard_by(1)
    place.until_listeners(1)
    [(before,)] = place.database.execute(backend, place.database.name)
    wait_until(lambda: Path(f"{place.notes}-forked").exists(), SECONDS)
    [(last,)] = place.database.execute("INSERT INTO orders DEFAULT VALUES RETURNING id")
    wait_until(lambda: f"{pid} {last}\n" in place.notes.read_text(), SECONDS)
    place.until_listeners(1)
    assert place.database.execute(backend, place.database.name) == [(before,)]
    assert place.pids() == {pid}


@pytest.mark.parametrize("kind", [["-k", "gevent"], ["-k", "gthread", "--threads", "20"]], ids=["gevent", "gthread"])
def test_sigterm_ends_workers_with_open_streams_at_once_and_says_bye(kind: list[str], place: Place) -> None:
    master = place.gunicorn(*kind, "--graceful-timeout", str(GRACEFUL_SECONDS))
    streams = [place.stream() for _ in range(10)]
    for stream in streams:
        stream.next("ready")
    said: list[str] = []

    def read(stream: Stream) -> None:
        said.append(stream.next("bye").data["reason"])
        assert not list(stream)
        stream.close()  # gunicorn would keep an idle connection for its `keepalive` of 2 s

    readers = [threading.Thread(target=read, args=(stream,)) for stream in streams]
    for reader in readers:
        reader.start()
    began = time.monotonic()
    master.terminate()
    assert master.wait(SECONDS) == 0, place.errors.read_text()
    assert time.monotonic() - began < GRACEFUL_SECONDS / 2
    for reader in readers:
        reader.join(30)
    assert said == ["shutdown"] * 10
    place.until_listeners(0)
