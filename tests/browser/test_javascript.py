"""The JavaScript without a browser: its own tests under node, and the size of pgevents.js."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

HERE = Path(__file__).parent
CLIENT = HERE.parent.parent / "static" / "pgevents.js"


@pytest.mark.parametrize("file", ["pgevents.test.mjs", "joined.test.mjs"])
def test_under_node(file: str) -> None:
    # Playwright's wheel brings a node: nothing else has to be installed.
    node = compute_driver_executable()[0]
    command = [node, "--test", "--test-reporter=tap", str(HERE / file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass [1-9][0-9]*$", done.stdout, re.M), done.stdout


def test_client_is_small() -> None:
    text = CLIENT.read_text()
    text = re.sub(r"/\*\*.*?\*/", "", text, flags=re.S)
    lines = [re.sub(r"^\s*//.*|^\s+", "", line) for line in text.splitlines()]
    # A real minifier would shorten names too, so this is the upper bound.
    size = len(gzip.compress("\n".join(filter(None, lines)).encode(), 9))
    assert size <= 4096, f"{size} bytes"
