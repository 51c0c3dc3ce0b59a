"""share: true: ten tabs that follow twelve tables have one connection, where HTTP/1.1 would allow six streams."""

from __future__ import annotations

from tests.browser.both import Browser, Tab, wait_for
from tests.browser.matrix_clients import BLANK
from tests.browser.stage import TABLES, Stage

TABS = 10
FOLLOW = """(async () => {
  const { connect } = await import("/pgevents/static/pgevents.js");
  globalThis.hub = connect({ share: true });
  globalThis.heard = [];
  for (let n = 0; n < TABLES; n++) hub.table(`t${n}`).on("*", ({ table, pk }) => heard.push(`${table} ${pk.id}`));
})()""".replace("TABLES", str(TABLES))


def open_tabs(stage: Stage, browser: Browser) -> list[Tab]:
    tabs: list[Tab] = []
    while len(tabs) < TABS:
        tabs.append((tabs[0].open_beside if tabs else browser.open)(stage.url + BLANK))
        tabs[-1].evaluate(FOLLOW)
    for tab in tabs:
        until_live(tab)
    return tabs


def until_live(tab: Tab) -> None:
    wait_for(lambda: tab.evaluate("hub.state") == "live", lambda: tab.evaluate("hub.state"))


def write(stage: Stage, number: int) -> list[str]:
    """Write into each table; return what each tab should hear."""
    stage.execute("BEGIN;" + "".join(f"INSERT INTO t{n} VALUES ({number});" for n in range(TABLES)) + "COMMIT")
    return [f"t{n} {number}" for n in range(TABLES)]


def until_all_heard(tabs: list[Tab], wanted: list[str]) -> None:
    for tab in tabs:
        wait_for(lambda tab=tab: len(tab.evaluate("heard")) >= len(wanted), lambda tab=tab: tab.evaluate("heard"))  # type: ignore[misc]
        assert tab.evaluate("heard") == wanted


def test_ten_tabs_and_twelve_tables_have_one_connection(stage: Stage, either: Browser) -> None:
    stage.execute("TRUNCATE " + ", ".join(f"t{n}" for n in range(TABLES)))
    either.complaints.clear()
    before = stage.connections()
    tabs = open_tabs(stage, either)
    wait_for(lambda: stage.connections() == before + 1, stage.connections)
    wanted = write(stage, 1)
    until_all_heard(tabs, wanted)
    # The leader goes; the next one is told by the browser, and what is written meanwhile is for all.
    tabs.pop(0).close()
    wanted += write(stage, 2)
    until_all_heard(tabs, wanted)
    wait_for(lambda: stage.connections() == before + 1, stage.connections)
    for tab in tabs:
        tab.close()
    wait_for(lambda: stage.connections() == before, stage.connections)
    assert either.complaints == []
