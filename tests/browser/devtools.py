"""Drives a headless Chromium by the DevTools protocol. Unlike under Playwright, a tab behind another one is hidden."""

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

from tests.browser.chromium import ARGUMENTS, NAMES
from tests.fixtures.servers import python

START_SECONDS = 60.0
ANSWER_SECONDS = 60.0


class Chromium:
    """A running Chromium; `open()` opens tabs."""

    name = "chromium"

    def __init__(self) -> None:
        found = next(filter(None, map(shutil.which, NAMES)), None)
        assert found, "Chromium is missing: install Debian's chromium."
        self._profile = tempfile.TemporaryDirectory(prefix="pgevents-chromium-", ignore_cleanup_errors=True)
        log = Path(self._profile.name, "output")
        command = [
            found,
            "--headless=new",
            *ARGUMENTS,
            "--window-size=1366,768",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile.name}",
        ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                python("-c", f"import os; os.execv({found!r}, {command!r})"),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.complaints: list[str] = []
        self._count = 0
        try:
            self._socket = websocket.create_connection(self._address(log), ANSWER_SECONDS, suppress_origin=True)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _address(self, log: Path) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace"))):
            assert self.process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.05)
        return found[1]

    def ask(self, method: str, session: str | None = None, **params: Any) -> Any:
        """Send a command; return its result. What comes before that is noted."""
        self._count += 1
        number = self._count
        to = {"sessionId": session} if session else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **to}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "result" in message, (method, message)
                return message["result"]
            self._note(message.get("method"), message.get("params"))

    def _note(self, method: str | None, params: Any) -> None:
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def open(self, url: str, beside: ChromiumTab | None = None) -> ChromiumTab:
        """Open a page in a window and a profile of its own, which has its own connections; or beside another tab."""
        user = beside.user if beside else self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=user, newWindow=beside is None)
        session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable", session)
        tab = ChromiumTab(self, target["targetId"], session, user)
        tab.goto(url)
        return tab

    def close(self) -> None:
        """End it. Ended already: does nothing."""
        with suppress(OSError, websocket.WebSocketException, AssertionError):
            self.ask("Browser.close")
        with suppress(OSError):
            self._socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._profile.cleanup()


class ChromiumTab:
    """One tab."""

    def __init__(self, browser: Chromium, target: str, session: str, user: str) -> None:
        self._browser, self._target, self._session, self.user = browser, target, session, user

    def goto(self, url: str) -> None:
        answer = self._browser.ask("Page.navigate", self._session, url=url)
        assert "errorText" not in answer, (url, answer)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.evaluate("[document.readyState, location.href]") != ["complete", url]:
            assert time.monotonic() < deadline, f"{url} does not load"
            time.sleep(0.02)

    def open_beside(self, url: str) -> ChromiumTab:
        """Open a page in another tab of the same window and profile."""
        return self._browser.open(url, self)

    def evaluate(self, expression: str) -> Any:
        """Evaluate an expression, wait for it when it is a promise; return what JSON makes of its value."""
        options = {"returnByValue": True, "awaitPromise": True}
        text = f"Promise.resolve({expression}).then((value) => JSON.stringify(value ?? null))"
        answer = self._browser.ask("Runtime.evaluate", self._session, expression=text, **options)
        assert "exceptionDetails" not in answer, (expression, answer)
        return json.loads(answer["result"]["value"])

    def show(self) -> None:
        """Bring it to the front of its window: the others of the window are hidden then."""
        self._browser.ask("Target.activateTarget", targetId=self._target)

    def screenshot(self) -> bytes:
        return base64.b64decode(self._browser.ask("Page.captureScreenshot", self._session)["data"])

    def close(self) -> None:
        self._browser.ask("Target.closeTarget", targetId=self._target)
