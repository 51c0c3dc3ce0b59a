"""Every recipe shows what SQL shows, in Chromium and in Firefox, and says nothing to the console."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.recipes import RECIPES
from tests.browser.both import Browser, Tab
from tests.browser.node import packages
from tests.browser.running_demo import ROOT, RunningDemo
from tests.fixtures.servers import python

SCREENSHOTS = Path(__file__).parent / "screenshots"
DEADLINE_SECONDS = 30.0
SHOWN = r"""[...document.querySelectorAll("#orders > li")].map(
    (line) => `${line.id} ${line.textContent.replace(/\s+/g, " ").trim()}`)"""
LINE = "format('orders-%s %s %s \N{MULTIPLICATION SIGN} %s %s', id, customer, quantity, item, status)"
ROWS = rf"SELECT regexp_replace({LINE}, '\s+', ' ', 'g') FROM orders ORDER BY id"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    packages(ROOT / "demo" / "recipes")


def until_like_sql(demo: RunningDemo, tab: Tab) -> None:
    expected = demo.psql(ROWS).splitlines()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (shown := tab.evaluate(SHOWN)) != expected:
        assert time.monotonic() < deadline, f"shown: {shown}\nin the table: {expected}"
        time.sleep(0.02)


@pytest.mark.parametrize("name", RECIPES)
def test_page_shows_what_the_table_holds(demo: RunningDemo, either: Browser, name: str) -> None:
    either.complaints.clear()
    demo.psql("TRUNCATE orders; INSERT INTO orders (customer, item) VALUES ('Ada', 'Map'), ('O''Hara', 'Rope')")
    tab = either.open(f"{demo.url}/recipes/{name}")
    until_like_sql(demo, tab)
    hostile = "'<b>Eve</b> & \"co\" ''\n'"
    script = "'<script>alert(1)</script>'"
    number = demo.psql(f"INSERT INTO orders (customer, item) VALUES ({hostile}, {script}) RETURNING id")
    until_like_sql(demo, tab)
    demo.psql(f"UPDATE orders SET status = 'paid', quantity = 12 WHERE id <= {number}")
    until_like_sql(demo, tab)
    demo.psql("DELETE FROM orders WHERE customer = 'Ada'")
    until_like_sql(demo, tab)
    tab.evaluate("document.querySelector('button').click()")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while demo.psql("SELECT count(*) FROM orders WHERE customer = 'Somebody'") != "1":
        assert time.monotonic() < deadline
    until_like_sql(demo, tab)
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / f"recipe-{name}-{either.name}.png").write_bytes(tab.screenshot())
    demo.psql("BEGIN; TRUNCATE orders; INSERT INTO orders (customer, item) VALUES ('Last', 'Map'); COMMIT")
    until_like_sql(demo, tab)
    tab.close()
    assert either.complaints == []


def test_the_list_of_recipes_leads_to_all_of_them(demo: RunningDemo, either: Browser) -> None:
    either.complaints.clear()
    tab = either.open(f"{demo.url}/recipes/")
    links = tab.evaluate("[...document.querySelectorAll('ul a')].map((link) => link.pathname)")
    assert links == [f"/recipes/{name}" for name in RECIPES]
    (SCREENSHOTS / f"recipes-{either.name}.png").write_bytes(tab.screenshot())
    tab.close()
    assert either.complaints == []


CLIENTS = {"python": [sys.executable, "follow.py"], "curl": ["sh", "follow.sh"]}


@pytest.mark.parametrize("client", CLIENTS)
def test_client_prints_each_change_also_when_the_server_dies(demo: RunningDemo, client: str) -> None:
    folder = ROOT / "demo" / "recipes" / "clients"
    process = subprocess.Popen(
        python("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *CLIENTS[client], demo.url),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, bufsize=0,
    )  # fmt: skip
    try:
        demo.psql("TRUNCATE orders")
        heard: list[Any] = []
        until_heard(process, heard, "first", lambda: insert(demo, "first"))
        kill_workers(demo)
        wanted = [insert(demo, "while it was away") for _ in range(3)]
        wanted.append(insert(demo, "last"))
        until_heard(process, heard, "last")
        after = [change["pk"]["id"] for change in heard if change["row"] and change["row"]["customer"] != "first"]
        assert after == wanted
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def kill_workers(demo: RunningDemo) -> None:
    master = psutil.Process(int(demo.said["process"]))
    workers = [child for child in master.children() if child.cmdline() == master.cmdline()]
    assert len(workers) == 2
    for worker in workers:
        worker.kill()


def insert(demo: RunningDemo, customer: str) -> int:
    return int(demo.psql(f"INSERT INTO orders (customer, item) VALUES ('{customer}', 'Rope') RETURNING id"))


def until_heard(process: subprocess.Popen[bytes], heard: list[Any], customer: str, again: Any = None) -> None:
    """Read what a client prints until it has printed an order of this customer; meanwhile do something `again`, for a
    client that does not say when it begins to listen."""
    assert process.stdout is not None
    deadline = time.monotonic() + DEADLINE_SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not any(change["row"] and change["row"]["customer"] == customer for change in heard):
            assert time.monotonic() < deadline, heard
            assert process.poll() is None
            if again:
                again()
            while selector.select(0.2):
                heard.append(json.loads(process.stdout.readline()))
