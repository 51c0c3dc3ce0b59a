"""After a gap every recipe shows what the table holds: here the log is another one when the server comes back."""

from __future__ import annotations

import json

import pytest

from demo.recipes import RECIPES
from tests.browser.both import Tab, wait_for
from tests.browser.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ADD = "INSERT INTO orders (customer, item, quantity) SELECT '{}', 'Rope', n FROM generate_series(1, 5) AS n"
# EventSource and the sockets' recipes load their page again.
ROWS = "JSON.stringify([...document.querySelectorAll('#orders > li')].map(line))"
TIMES = "\N{MULTIPLICATION SIGN}"
LINE = "line = (one) => [one.id, one.querySelector('span').textContent]"


def shown(tab: Tab) -> list[list[str]]:
    rows: list[list[str]] = json.loads(tab.evaluate(f"(({LINE}) => {ROWS})()"))
    return rows


def until_like_sql(stage: Stage, tabs: dict[str, Tab]) -> None:
    rows = stage.execute(f"SELECT 'orders-' || id, format('%s {TIMES} %s', quantity, item) FROM orders ORDER BY id")
    wanted = [list(row) for row in rows]
    for name, tab in tabs.items():
        wait_for(lambda tab=tab: shown(tab) == wanted, lambda name=name, tab=tab: f"{name}: {shown(tab)}, not {wanted}")  # type: ignore[misc]


def test_every_page_comes_to_the_truth(stage: Stage) -> None:
    stage.execute("TRUNCATE orders; " + ADD.format("Before"))
    for browser in stage.browsers:
        browser.complaints.clear()
    pages = [(browser, name) for browser in stage.browsers for name in RECIPES]
    tabs = {f"{browser.name}, {name}": browser.open(f"{stage.url}/recipes/{name}") for browser, name in pages}
    until_like_sql(stage, tabs)
    stage.kill_server()
    # As when a database is restored, or its log removed: no position that anybody has means anything now.
    stage.execute("DROP SCHEMA pgevents CASCADE; DELETE FROM orders WHERE quantity < 3; " + ADD.format("Unheard"))
    stage.start_server()
    stage.execute(ADD.format("After"))
    until_like_sql(stage, tabs)
    for tab in tabs.values():
        tab.close()
