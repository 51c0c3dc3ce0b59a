"""The demo as a user starts it: `python -m demo`, in a process of its own that ends with the tests."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 60.0
# Ends the demo when the pipe to us is closed, which also happens when we are killed.
LEASH = '"$@" & echo The process $!; read -r _; kill -TERM $!; wait $!'


class RunningDemo:
    """The demo, how to reach it, and psql on its database."""

    def __init__(self, port: int | None = None) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", LEASH, "leash", sys.executable, "-W", "error::ResourceWarning", "-m", "demo"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PORT": str(port or free_port()), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.said: dict[str, str] = {}
        try:
            self._read_welcome(self._pipe(self._process.stdout))
            self.url = self.said["board"]
            self._wait_until_listening()
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream

    def _read_welcome(self, lines: IO[str]) -> None:
        for line in lines:
            words = line.split(maxsplit=2)
            if words[:1] == ["The"]:
                self.said[words[1]] = words[2].strip()
            elif words[:1] == ["Port"]:
                self.said["port"] = line.strip()
            if "Ctrl-C" in line:
                return
        raise AssertionError(f"The demo ended early, after saying {self.said}")

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.get("/pgevents/health")
                return
            except OSError:  # refused, 503, or too slow for once
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    @property
    def database(self) -> dict[str, Any]:
        """Where its database is, as psycopg2 wants it."""
        words = shlex.split(self.said["database"])
        names = {"-h": "host", "-p": "port", "-U": "user", "-d": "dbname"}
        return {names[option]: value for option, value in pairwise(words) if option in names}

    def psql(self, statement: str) -> str:
        """Run one statement in psql; return its rows, columns separated by `|`."""
        command = [*shlex.split(self.said["database"]), "-v", "ON_ERROR_STOP=1", "-qAtc", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()

    def stop(self) -> None:
        """End it as Ctrl-C would, and wait until the last of its processes is gone. Stopped already: does nothing."""
        # The demo's own processes hold its standard output: it ends when the last of them is gone.
        self._process.communicate(timeout=40)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
