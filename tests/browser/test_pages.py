"""What pages do: rows of a <table> by each library, a page that is loaded again, a page of another origin."""

from __future__ import annotations

import pytest

from tests.browser.both import Browser, Tab, wait_for
from tests.browser.matrix_clients import BLANK
from tests.browser.stage import Stage

CELLS = """[...document.querySelectorAll("#rows > tr")].map((row) => [...row.cells].map((cell) => cell.textContent))"""
WRITES = (
    "INSERT INTO t1 VALUES (1, 'one'), (2, E'<b>two</b>\\n& \"more\"')",
    "UPDATE t1 SET word = 'first' WHERE id = 1",
    "UPDATE t1 SET id = 7 WHERE id = 1",
    "DELETE FROM t1 WHERE id = 2",
    "BEGIN; TRUNCATE t1; INSERT INTO t1 VALUES (3, 'three'); COMMIT",
)


def until_like_sql(stage: Stage, tab: Tab) -> None:
    wanted = [[str(number), word] for number, word in stage.execute("SELECT id, word FROM t1 ORDER BY id")]
    wait_for(lambda: sorted(tab.evaluate(CELLS)) == wanted, lambda: f"{tab.evaluate(CELLS)}, not {wanted}")


@pytest.mark.parametrize("library", ["htmx2", "htmx4", "turbo"])
def test_rows_of_a_table_come_change_and_go(stage: Stage, either: Browser, library: str) -> None:
    stage.execute("TRUNCATE t1; INSERT INTO t1 VALUES (0, 'was there')")
    either.complaints.clear()
    tab = either.open(f"{stage.url}/rows/{library}")
    until_like_sql(stage, tab)
    for statement in WRITES:
        stage.execute(statement)
        until_like_sql(stage, tab)
    tab.close()
    assert either.complaints == []


FOLLOW = """(async () => {
  const { connect } = await import("/pgevents/static/pgevents.js");
  const hub = connect({ persist: true, transport: TRANSPORT });
  const channel = hub.table("t2");
  globalThis.heard = [];
  channel.on("*", ({ pk }) => heard.push(pk.id));
  return new Promise((resolve) => channel.on("ready", ({ resumed }) => resolve(resumed)));
})()"""


@pytest.mark.parametrize("transport", ["sse", "ws"])
def test_a_page_that_is_loaded_again_misses_nothing(stage: Stage, either: Browser, transport: str) -> None:
    follow = FOLLOW.replace("TRANSPORT", repr(transport))
    stage.execute("TRUNCATE t2")
    either.complaints.clear()
    tab = either.open(stage.url + BLANK)
    assert tab.evaluate(follow) is False
    stage.execute("INSERT INTO t2 VALUES (1)")
    wait_for(lambda: tab.evaluate("heard") == [1], lambda: tab.evaluate("heard"))
    tab.goto(stage.url + BLANK)
    stage.execute("INSERT INTO t2 VALUES (2), (3)")
    assert tab.evaluate(follow) is True
    wait_for(lambda: len(tab.evaluate("heard")) >= 2, lambda: tab.evaluate("heard"))
    assert tab.evaluate("heard") == [2, 3]
    tab.close()
    assert either.complaints == []


CROSS = """(async () => {
  const { connect, liveTable } = await import("/pgevents/static/pgevents.js");
  const headers = () => ({ Authorization: "Bearer x" });
  const options = { transport: TRANSPORT, headers, credentials: "include", maxDelay: 500 };
  globalThis.hub = connect({ url: "URL/pgevents/stream", ...options });
  globalThis.live = liveTable(hub, "t3");
  return new Promise((resolve) => live.on("ready", () => resolve()));
})()"""


@pytest.mark.parametrize("transport", ["sse", "ws"])
def test_a_page_of_another_origin_follows_and_resumes(stage: Stage, either: Browser, transport: str) -> None:
    """With headers that browsers ask about first: Authorization, and Last-Event-ID when it comes back."""
    stage.execute("TRUNCATE t3; INSERT INTO t3 VALUES (1)")
    either.complaints.clear()
    tab = either.open(stage.elsewhere + "/empty")
    assert tab.evaluate("location.origin") == stage.elsewhere
    tab.evaluate(CROSS.replace("URL", stage.url).replace("TRANSPORT", repr(transport)))
    wait_for(lambda: tab.evaluate("live.rows.map(({ id }) => id)") == [1], lambda: tab.evaluate("live.rows"))
    assert either.complaints == []
    stage.gateway.cut()
    stage.execute("INSERT INTO t3 VALUES (2)")
    wait_for(lambda: tab.evaluate("live.rows.map(({ id }) => id)") == [1, 2], lambda: tab.evaluate("live.rows"))
    assert tab.evaluate("hub.state") == "live"
    tab.close()
