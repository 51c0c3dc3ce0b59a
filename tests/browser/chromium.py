"""Finds a Chromium and starts it without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright

OpenTab = Callable[..., Page]
DEADLINE_SECONDS = 30.0
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing but the page may use the network or the two cores; root has no sandbox.
ARGUMENTS = [
    "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


def launch(playwright: Playwright) -> Browser:
    """Start PGEVENTS_TEST_CHROMIUM, else the machine's own Chromium, else the one that Playwright brings;
    where there is none, Playwright installs its own, once."""
    found = os.environ.get("PGEVENTS_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and not Path(playwright.chromium.executable_path).exists():
        install = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
        subprocess.run(install, check=True, timeout=100)
    return playwright.chromium.launch(executable_path=found, headless=True, args=ARGUMENTS)


def wait_until(tab: Page, function: str, argument: object = None) -> None:
    """Wait until a JavaScript function of the page returns true. Playwright's own `wait_for_function` uses
    eval(), which the demo's Content-Security-Policy forbids."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not tab.evaluate(function, argument):
        assert time.monotonic() < deadline, f"never true: {function} {argument!r}\n{tab.inner_text('main')}"
        tab.wait_for_timeout(20)
