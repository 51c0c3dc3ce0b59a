"""`python -m demo` as a process: its port, and that nothing of it stays behind, however it ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.running_demo import RunningDemo, free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_taken_port_is_said_and_another_one_used(taken_port: int) -> None:
    demo = RunningDemo(taken_port)
    try:
        assert demo.said["port"].startswith(f"Port {taken_port} is taken")
        assert not demo.url.endswith(f":{taken_port}")
        assert demo.url in demo.said["stream"]
        assert b"Orders" in demo.get("/")
    finally:
        demo.stop()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_stays_behind(end: signal.Signals) -> None:
    demo = RunningDemo()
    directory = Path(demo.database["host"])
    assert directory.is_dir()
    os.kill(int(demo.said["process"]), end)
    # Its output ends when the last process that holds it is gone: workers, postgres, watchdog.
    demo.stop()
    with pytest.raises(OSError, match="refused"):
        demo.get("/")
    assert end == signal.SIGKILL or not directory.exists()


def test_ctrl_c_in_a_terminal_is_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    """It reaches all processes at once, the workers too."""
    demo = RunningDemo()
    os.killpg(os.getpgid(int(demo.said["process"])), signal.SIGINT)
    demo.stop()
    assert "Traceback" not in capfd.readouterr().err
