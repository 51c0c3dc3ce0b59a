"""What a new user does: the README's lines in an empty directory are a live page, in both browsers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.both import Browser, Tab, wait_for
from tests.browser.node import packages
from tests.fixtures.postgres import Database
from tests.fixtures.servers import ROOT, free_port, python

README = (ROOT / "README.md").read_text()
CDN = re.compile(r"https://unpkg\.com/htmx\.org@([\d.]+)/")
SHOWN = "[...document.querySelectorAll('#orders > li')].map((one) => `${one.id} ${one.textContent}`)"
START_SECONDS = 60.0


def block(language: str, what: str) -> str:
    """The README's block that holds a text."""
    [found] = [one for one in re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S) if what in one]
    return str(found)


@pytest.fixture
def directory(tmp_path: Path, database: Database) -> Path:
    """What the user has typed. What the page takes from the internet is here the same, of npm."""
    app = block("python", "app = Flask(__name__)") + block("python", "page.html")
    [partial] = re.findall(r"# templates/_order\.html: (.*)", app)
    (tmp_path / "app.py").write_text(app.replace("postgresql+psycopg2:///postgres", database.url))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "_order.html").write_text(partial)
    package = packages(ROOT / "demo" / "recipes") / "htmx.org"
    page = block("html", "htmx")
    assert set(CDN.findall(page)) == {re.findall(r'"version": "(.*)"', (package / "package.json").read_text())[0]}
    (tmp_path / "page.html").write_text(CDN.sub("/static/", page))
    shutil.copytree(package / "dist", tmp_path / "static" / "dist")
    return tmp_path


@pytest.fixture
def url(directory: Path) -> Iterator[str]:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (directory / "output").open("wb") as output:
        command = python("-m", "flask", "run", "--port", str(port))
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=output)
    try:
        wait_until_up(process, f"http://127.0.0.1:{port}", directory / "output")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_up(process: subprocess.Popen[bytes], url: str, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        try:
            urllib.request.urlopen(f"{url}/pgevents/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)


def until_like_sql(database: Database, tab: Tab) -> None:
    wanted = [f"orders-{number} {item}" for number, item in database.execute("SELECT * FROM orders ORDER BY id")]
    wait_for(lambda: tab.evaluate(SHOWN) == wanted, lambda: f"shown: {tab.evaluate(SHOWN)}, in the table: {wanted}")


def test_a_page_is_live(url: str, database: Database, browsers: tuple[Browser, ...], directory: Path) -> None:
    database.execute("INSERT INTO orders (item) VALUES ('was there before')")
    for browser in browsers:
        browser.complaints.clear()
    tabs = [browser.open(f"{url}/") for browser in browsers]
    for statement in (
        "INSERT INTO orders (item) VALUES ('a lamp'), ('<b>bold</b> & \"quoted\"')",
        "UPDATE orders SET item = 'a better lamp' WHERE item = 'a lamp'",
        "DELETE FROM orders WHERE item = 'was there before'",
        "BEGIN; TRUNCATE orders; INSERT INTO orders (item) VALUES ('last'); COMMIT",
    ):
        for tab in tabs:
            until_like_sql(database, tab)
        database.execute(statement)
    for tab in tabs:
        until_like_sql(database, tab)
    wait_for(
        lambda: (directory / "output").read_text().count("a new order: last") == 1, (directory / "output").read_text
    )
    # Nobody asked the user for an icon, but Chromium does, and says so.
    said = [line for browser in browsers for line in browser.complaints]
    assert [line for line in said if "favicon.ico" not in line] == []
    for tab in tabs:
        tab.goto(f"{url}/")
        until_like_sql(database, tab)
        tab.close()
