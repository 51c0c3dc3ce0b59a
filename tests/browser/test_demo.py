"""The demo in a real browser: whoever writes, every tab shows it, and shows what SQL shows."""

from __future__ import annotations

import os
import re
import signal
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from playwright.sync_api import Page

from tests.browser.chromium import OpenTab, wait_until
from tests.browser.running_demo import RunningDemo

SCREENSHOTS = Path(__file__).parent / "screenshots"

LISTEN = """
    window.heard = [];
    window.unnamed = 0;
    const source = new EventSource("/pgevents/stream?table=orders");
    source.onmessage = () => { window.unnamed += 1; };
    for (const type of ["ready", "insert", "update", "delete", "truncate"]) {
        source.addEventListener(type, (message) => {
            window.heard.push({ type, id: message.lastEventId, data: JSON.parse(message.data) });
        });
    }
    0
"""
BOARD = """[...document.querySelectorAll(".card")]
    .map((card) => [card.dataset.id, card.querySelector(".who").textContent, card.dataset.status].join("|"))
    .sort().join("\\n")"""

LINES = """[...document.querySelectorAll("#log li")]
    .filter((line) => line.querySelector(".change").textContent.startsWith(change))"""


def insert(demo: RunningDemo, customer: str, status: str = "new") -> str:
    columns = f"INSERT INTO orders (customer, item, status) VALUES ('{customer}', 'Rope', '{status}')"
    return demo.psql(f"{columns} RETURNING id")


def wait_until_like_sql(demo: RunningDemo, *tabs: Page) -> None:
    rows = demo.psql("SELECT id, customer, status FROM orders")
    expected = "\n".join(sorted(rows.splitlines()))
    for tab in tabs:
        wait_until(tab, f"(expected) => ({BOARD}) === expected", expected)


def test_event_source_gets_named_events(demo: RunningDemo, open_tab: OpenTab) -> None:
    tab = open_tab()
    tab.evaluate(LISTEN)
    wait_until(tab, "() => window.heard.length === 1")
    number = insert(demo, "Named")
    demo.psql(f"UPDATE orders SET status = 'paid' WHERE id = {number}")
    demo.psql(f"DELETE FROM orders WHERE id = {number}")
    wait_until(tab, "() => window.heard.length === 4")
    ready, inserted, updated, deleted = tab.evaluate("window.heard")
    assert ready["type"] == "ready"
    assert [event["type"] for event in (inserted, updated, deleted)] == ["insert", "update", "delete"]
    assert all(event["data"]["type"] == event["type"] for event in (inserted, updated, deleted))
    assert all(str(event["data"]["pk"]["id"]) == number for event in (inserted, updated, deleted))
    assert inserted["data"]["row"]["customer"] == "Named"
    assert (updated["data"]["changed"], updated["data"]["old"]["status"]) == (["status"], "new")
    assert deleted["data"]["row"] is None
    assert len({event["id"] for event in (ready, inserted, updated, deleted)} - {""}) == 4
    assert tab.evaluate("window.unnamed") == 0


def test_psql_insert_appears_in_both_tabs(demo: RunningDemo, open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    number = insert(demo, "O'Hara".replace("'", "''"))
    for tab in (first, second):
        tab.wait_for_selector(f".column[data-status=new] .card[data-id='{number}'] >> text=O'Hara")
    wait_until_like_sql(demo, first, second)


def test_form_in_one_tab_appears_in_the_other(demo: RunningDemo, open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    first.fill("[name=customer]", "Hedy & <b>Lamarr</b>")
    first.select_option("[name=item]", "Lantern")
    first.fill("[name=quantity]", "3")
    first.click("#add button")
    card = second.wait_for_selector(".card:has-text('Hedy & <b>Lamarr</b>')")
    assert card
    assert re.search(r"#\d+\s+3 . Lantern87\.00\s", str(card.text_content()))
    wait_until_like_sql(demo, first, second)


def test_card_moves_and_goes_in_both_tabs(demo: RunningDemo, open_tab: OpenTab) -> None:
    first, second = open_tab(), open_tab()
    number = insert(demo, "Mover")
    for status in ("paid", "shipped"):
        first.click(f".card[data-id='{number}'] .advance")
        for tab in (first, second):
            tab.wait_for_selector(f".column[data-status={status}] .card[data-id='{number}']")
    second.click(f".card[data-id='{number}'] .remove")
    for tab in (first, second):
        tab.wait_for_selector(f".card[data-id='{number}']", state="detached")
    wait_until_like_sql(demo, first, second)


def test_order_that_another_program_holds_is_said_to_be_held(
    demo: RunningDemo, open_tab: OpenTab, complaints: list[str]
) -> None:
    tab = open_tab()
    number = insert(demo, "Held")
    with closing(psycopg2.connect(**demo.database)) as other, other.cursor() as cursor:
        cursor.execute("UPDATE orders SET quantity = 7 WHERE id = %s", [number])
        tab.click(f".card[data-id='{number}'] .advance")
        tab.wait_for_selector("#hint:has-text('Another program holds this order')")
        other.commit()
    tab.wait_for_selector(f".card[data-id='{number}']:has-text('7 ')")
    tab.click(f".card[data-id='{number}'] .advance")
    tab.wait_for_selector(f".column[data-status=paid] .card[data-id='{number}']")
    wait_until_like_sql(demo, tab)
    complaints[:] = [said for said in complaints if "503" not in said]


@pytest.mark.parametrize("program", ["psql", "psycopg2", "ship", "copy", "bulk", "rollback", "clear", "restart"])
def test_other_program_shows_its_command_and_both_tabs_follow(
    demo: RunningDemo, open_tab: OpenTab, program: str
) -> None:
    first, second = open_tab(), open_tab()
    before = demo.psql("SELECT id, status FROM orders ORDER BY id")
    first.click(f"[data-program={program}]")
    first.wait_for_selector("#output:has-text('(exit 0')")
    assert str(first.text_content("#command")).startswith("$ p")
    assert (demo.psql("SELECT id, status FROM orders ORDER BY id") == before) is (program == "rollback")
    wait_until_like_sql(demo, first, second)


def test_both_workers_handle_each_change(demo: RunningDemo, open_tab: OpenTab) -> None:
    tab = open_tab()
    number = insert(demo, "Twice")
    wait_until(tab, f"(change) => {LINES}.length === 2", f"#{number} ")
    entries = tab.evaluate(
        f"(change) => {LINES}.map((line) => [...line.children].map((part) => part.textContent))", f"#{number} "
    )
    assert len({process for process, *_ in entries}) == 2
    assert [handler for _, handler, *_ in entries] == ["order_came", "order_came"]


def test_tabs_survive_the_death_of_all_workers(demo: RunningDemo, open_tab: OpenTab, complaints: list[str]) -> None:
    tab = open_tab()
    number = insert(demo, "Before")
    wait_until(tab, f"(change) => {LINES}.length === 2", f"#{number} ")
    workers = demo.psql(f"SELECT pid FROM handler_log WHERE change LIKE '#{number} %'").split()
    assert len(set(workers)) == 2
    for pid in workers:
        os.kill(int(pid), signal.SIGKILL)
    tab.wait_for_selector("#state[data-state=reconnecting]")
    missed = insert(demo, "Meanwhile")
    tab.wait_for_selector("#state[data-state=live]")
    tab.wait_for_selector(f".card[data-id='{missed}']")
    after = insert(demo, "After")
    tab.wait_for_selector(f".card[data-id='{after}']")
    wait_until_like_sql(demo, tab)
    # The browser itself logs each connection that it could not make.
    complaints[:] = [said for said in complaints if "ERR_" not in said]


def test_it_looks_right_on_a_laptop(demo: RunningDemo, open_tab: OpenTab) -> None:
    tab = open_tab()
    for program in ("restart", "copy", "psycopg2", "psql"):
        # Only the last change shall glow.
        tab.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
        tab.click(f"[data-program={program}]")
        tab.wait_for_selector("#output:has-text('(exit 0')")
        wait_until_like_sql(demo, tab)
    tab.mouse.move(0, 0)
    wait_until(tab, "() => document.querySelectorAll('#log .fresh').length >= 2")
    assert tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [1366, 768]
    SCREENSHOTS.mkdir(exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / "laptop.png")


def test_it_looks_right_on_a_phone(demo: RunningDemo, open_tab: OpenTab) -> None:
    tab = open_tab(390, 844, has_touch=True, is_mobile=True, color_scheme="dark")
    tab.tap("[data-program=psql]")
    tab.wait_for_selector("#output:has-text('(exit 0')")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    SCREENSHOTS.mkdir(exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / "phone.png", full_page=True)
