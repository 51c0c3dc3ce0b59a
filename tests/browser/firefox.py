"""Drives a headless Firefox by WebDriver BiDi, which it speaks itself: no geckodriver is needed."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import websocket

from tests.fixtures.servers import python

NAMES = ("firefox-esr", "firefox")
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0
# It may not ask the network for anything but our pages, and console messages shall come with their texts.
PREFERENCES = {
    "remote.active-protocols": 1,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
}


class Firefox:
    """A running Firefox; `open()` opens tabs."""

    name = "firefox"

    def __init__(self) -> None:
        found = next(filter(None, map(shutil.which, NAMES)), None)
        assert found, "Firefox is missing: install Debian's firefox-esr."
        self._profile = tempfile.TemporaryDirectory(prefix="pgevents-firefox-", ignore_cleanup_errors=True)
        lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
        Path(self._profile.name, "user.js").write_text("\n".join(lines))
        log = Path(self._profile.name, "output")
        arguments = ["--headless", "--no-remote", "--profile", self._profile.name, "--remote-debugging-port", "0"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                python("-c", f"import os; os.execv({found!r}, {[found, *arguments]!r})"),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.complaints: list[str] = []
        self._count = 0
        try:
            address = self._address(log)
            self._socket = websocket.create_connection(f"{address}/session", ANSWER_SECONDS, suppress_origin=True)
            self.ask("session.new", capabilities={})
            self.ask("session.subscribe", events=["log.entryAdded"])
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _address(self, log: Path) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"WebDriver BiDi listening on (ws://\S+)", log.read_text(errors="replace"))):
            assert self.process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.05)
        return found[1]

    def ask(self, method: str, **params: Any) -> Any:
        """Send a command; return its result. What comes before that is noted."""
        self._count += 1
        number = self._count
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert message["type"] == "success", (method, message)
                return message["result"]
            self._note(message)

    def _note(self, message: Any) -> None:
        if message.get("method") == "log.entryAdded" and message["params"]["level"] in ("error", "warn"):
            self.complaints.append(str(message["params"].get("text")))

    def open(self, url: str, beside: FirefoxTab | None = None) -> FirefoxTab:
        """Open a page in a window and a user context of its own, with its own connections; or beside another tab."""
        user = beside.user if beside else self.ask("browser.createUserContext")["userContext"]
        more = {"referenceContext": beside.context} if beside else {}
        kind = "tab" if beside else "window"
        context = self.ask("browsingContext.create", type=kind, userContext=user, background=False, **more)["context"]
        tab = FirefoxTab(self, context, user)
        tab.goto(url)
        return tab

    def close(self) -> None:
        """End it. Ended already: does nothing."""
        with suppress(OSError, websocket.WebSocketException, AssertionError):
            self.ask("browser.close")
        with suppress(OSError):
            self._socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._profile.cleanup()


class FirefoxTab:
    """One tab."""

    def __init__(self, browser: Firefox, context: str, user: str) -> None:
        self._browser, self.context, self.user = browser, context, user

    def goto(self, url: str) -> None:
        self._browser.ask("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def open_beside(self, url: str) -> FirefoxTab:
        """Open a page in another tab of the same window and profile."""
        return self._browser.open(url, self)

    def evaluate(self, expression: str) -> Any:
        """Evaluate an expression, wait for it when it is a promise; return what JSON makes of its value."""
        text = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        target = {"context": self.context}
        answer = self._browser.ask("script.evaluate", expression=text, target=target, awaitPromise=True)
        assert answer["type"] == "success", (expression, answer)
        return json.loads(answer["result"]["value"])

    def show(self) -> None:
        """Bring it to the front of its window: the others of the window are hidden then."""
        self._browser.ask("browsingContext.activate", context=self.context)

    def screenshot(self) -> bytes:
        return base64.b64decode(self._browser.ask("browsingContext.captureScreenshot", context=self.context)["data"])

    def close(self) -> None:
        self._browser.ask("browsingContext.close", context=self.context)
