"""The JavaScript without a browser: its own tests under node, its types, and the size of pgevents.js."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from tests.browser.node import HERE, packages, run_node

STATIC = HERE.parent.parent / "static"
TESTS = sorted(path.name for path in HERE.glob("*.test.mjs"))
MOST_BYTES = 4096


@pytest.mark.parametrize("file", TESTS)
def test_under_node(file: str) -> None:
    done = run_node("--test", "--test-reporter=tap", HERE / file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass [1-9][0-9]*$", done.stdout, re.M), done.stdout
    assert re.search(r"^# skipped 0$", done.stdout, re.M), done.stdout


@pytest.fixture(scope="module")
def tools() -> Path:
    return packages(HERE)


def minified(tools: Path) -> str:
    options = ["--module", "--ecma", "2022", "--compress", "passes=3", "--mangle"]
    done = run_node(tools / "terser" / "bin" / "terser", *options, "--", STATIC / "pgevents.js")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_client_is_small(tools: Path) -> None:
    size = len(gzip.compress(minified(tools).encode(), 9, mtime=0))
    assert 2000 < size <= MOST_BYTES, f"{size} bytes"


def test_the_types_are_right(tools: Path) -> None:
    options = ["--strict", "--noEmit", "--target", "esnext", "--module", "nodenext", "--lib", "esnext,dom,dom.iterable"]
    done = run_node(tools / "typescript" / "bin" / "tsc", *options, HERE / "types" / "usage.ts")
    assert done.returncode == 0, done.stdout


def test_the_types_name_what_the_module_exports() -> None:
    declared = set(re.findall(r"^export (?:class|function|const) (\w+)", (STATIC / "pgevents.d.ts").read_text(), re.M))
    exported = set(re.findall(r"^export (?:class|function|const) (\w+)", (STATIC / "pgevents.js").read_text(), re.M))
    assert declared == exported == {"connect", "liveTable", "PgEventSource"}
