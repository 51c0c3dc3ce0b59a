"""The inspector in both browsers: its door, what it shows of changes, tables, streams and handlers, and its buttons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.both import Browser, Tab, wait_for
from tests.browser.stage import Stage

SCREENSHOTS = Path(__file__).parent / "screenshots"
PATH = "/pgevents/inspector"
HOSTILE = "<img src=x onerror=alert(1)>"

# The changes that are shown, the newest first: type, table and key, what happened.
CHANGES = """[...document.querySelectorAll("#list > li")].map(
    (li) => [li.dataset.type, ...[...li.querySelectorAll("summary code")].map((one) => one.textContent)])"""


def until(tab: Tab, expression: str, wanted: Any = True) -> None:
    wait_for(
        lambda: tab.evaluate(expression) == wanted, lambda: f"{expression} is {tab.evaluate(expression)}, not {wanted}"
    )


def click(tab: Tab, selector: str) -> None:
    tab.evaluate(f"document.querySelector({selector!r}).click()")


def give_pin(tab: Tab, pin: str) -> None:
    tab.evaluate(f"document.querySelector('#door input').value = {pin!r}")
    click(tab, "#door button")


def text(selector: str) -> str:
    return f"document.querySelector({selector!r}).textContent"


@pytest.fixture
def take_picture(either: Browser) -> Callable[[Tab, str], None]:
    def take(tab: Tab, what: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        (SCREENSHOTS / f"inspector-{what}-{either.name}.png").write_bytes(tab.screenshot())

    return take


@pytest.fixture
def desk(stage: Stage, either: Browser, take_picture: Callable[[Tab, str], None]) -> Any:
    """The inspector behind its door, with an empty list."""
    either.complaints.clear()
    tab = either.open(stage.url + PATH)
    until(tab, "document.querySelector('#door').hidden", False)
    assert tab.evaluate("document.querySelector('#desk').hidden")
    give_pin(tab, "111-111-111")
    until(tab, text("#refused"), "That is not the PIN.")
    take_picture(tab, "door")
    give_pin(tab, "123-456-789")
    until(tab, "document.querySelector('#desk').hidden", False)
    until(tab, text("#health"), "listening")
    # A browser says itself that a request was answered 401.
    either.complaints[:] = [said for said in either.complaints if "401" not in said]
    yield tab
    tab.close()
    assert either.complaints == []


def write_all_kinds(stage: Stage) -> int:
    insert = f"INSERT INTO orders (customer, item, status) VALUES ('Ada', '{HOSTILE}', 'new') RETURNING id"
    [(number,)] = stage.execute(insert)
    stage.execute(f"UPDATE orders SET status = 'paid' WHERE id = {number}")
    stage.execute(f"DELETE FROM orders WHERE id = {number}")
    return int(number)


def test_changes_are_shown_filtered_and_held(stage: Stage, desk: Tab, take_picture: Callable[[Tab, str], None]) -> None:
    # Its stream has no `ready`: until a change comes.
    wait_for(
        lambda: bool(stage.execute("INSERT INTO t1 VALUES (random() * 1e9)") or desk.evaluate(CHANGES)),
        lambda: "no change",
    )
    number = write_all_kinds(stage)
    until(desk, f"({CHANGES}).slice(0, 3).map(([type]) => type)", ["delete", "update", "insert"])
    deleted, updated, inserted = desk.evaluate(CHANGES)[:3]
    assert deleted[1] == updated[1] == inserted[1] == f"orders {number}"
    assert updated[2] == "status: new → paid"
    assert HOSTILE in inserted[2]
    click(desk, "#list [data-type=update] summary")
    until(
        desk,
        "[...document.querySelectorAll('#list td.old, #list td.new')].map((one) => one.textContent)",
        ["new", "paid"],
    )
    take_picture(desk, "desk")

    click(desk, "#types [data-type=insert]")
    until(desk, f"({CHANGES}).some(([type]) => type === 'insert')", False)
    click(desk, "#types [data-type=insert]")
    for element, value in (("search", "PAID"), ("table", "orders")):
        kind = "input" if element == "search" else "change"
        set_value = f"(one) => {{ one.value = {value!r}; one.dispatchEvent(new Event({kind!r})); }}"
        desk.evaluate(f"({set_value})(document.querySelector('#{element}'))")
        until(desk, f"({CHANGES}).every(([, name]) => name.startsWith('orders')) && ({CHANGES}).length > 0")
    click(desk, "#clear")
    until(desk, CHANGES, [])

    click(desk, "#pause")
    write_all_kinds(stage)
    until(desk, text("#pause"), "Go on (3)")
    assert desk.evaluate(CHANGES) == []
    click(desk, "#pause")
    until(desk, f"({CHANGES}).length > 0")


def test_tables_streams_and_handlers_are_shown(
    stage: Stage, either: Browser, desk: Tab, take_picture: Callable[[Tab, str], None]
) -> None:
    card = (
        "[...document.querySelectorAll('#tables .card')].find((one) => one.querySelector('b').textContent === 'orders')"
    )
    until(desk, f"{card}.querySelector('.pill').textContent", "current")
    click(desk, "#tables .card summary")
    assert desk.evaluate(f"{card}.querySelector('pre').textContent.includes('/pgevents/stream?table=orders')")

    other = either.open(stage.url + "/recipes/")
    other.evaluate("(globalThis.source = new EventSource('/pgevents/stream?table=t3&events=insert')).url")
    # Each worker tells of its own, and any of them answers.
    until(desk, "document.querySelector('#streams').textContent.includes('t3 · insert')")
    stage.execute("INSERT INTO t0 VALUES (random() * 1e9)")
    until(desk, "/ValueError: no \\d+, <b>please<\\/b>/.test(document.querySelector('#handlers').textContent)")
    until(desk, "document.querySelector('#handlers').textContent.includes('order_came')")
    take_picture(desk, "states")
    other.close()
