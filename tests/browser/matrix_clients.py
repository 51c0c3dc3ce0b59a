"""The clients of the matrix: each kind in a profile of its own, so with its own connections, in one tab or several."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.browser.both import Browser, Tab

SCRIPT = (Path(__file__).parent / "matrix_clients.js").read_text()
SCRIPT = SCRIPT[SCRIPT.index("(() =>") :]
TABS_OF_SHARE = 3
BLANK = "/recipes/"


class Kind(NamedTuple):
    """:param page: with a list that follows by itself, or a blank one, where a function of matrix_clients.js follows.
    :param tells: it tells when it has lost its connection."""

    page: str
    tells: bool


CLIENTS = {
    "pgevents.js, SSE": Kind(BLANK, True),
    "pgevents.js, WebSocket": Kind(BLANK, True),
    "pgevents.js, share": Kind(BLANK, True),
    "PgEventSource": Kind(BLANK, True),
    "EventSource": Kind(BLANK, True),
    "htmx 2, PgEventSource": Kind("/recipes/htmx2", False),
    "htmx 4": Kind("/recipes/htmx4", False),
    "Turbo, PgEventSource": Kind("/recipes/turbo", False),
    "Turbo alone": Kind("/turbo-alone", True),
}


class Truth(NamedTuple):
    """What SQL says: the changes by id, in order, with their types; the rows as they are now."""

    changes: dict[int, str]
    rows: list[list[int]]


@dataclass
class Verdict:
    """What became of a client; nothing in it is good news, but `broken` and `seconds`: until it had everything."""

    lost: int = 0
    twice: int = 0
    out_of_order: bool = False
    wrong_rows: str = ""
    dead: bool = False
    broken: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.out_of_order or self.wrong_rows or self.dead)


@dataclass
class Client:
    """One kind of client in one browser."""

    name: str
    browser: Browser
    tabs: list[Tab] = field(default_factory=list)
    # Of each tab, when the fault began: how much it had heard, how often it had lost its connection.
    begun: list[tuple[int, int]] = field(default_factory=list)

    def fill(self, url: str) -> None:
        """Open the tabs that it does not have, and remember where each of them is."""
        while len(self.tabs) < (TABS_OF_SHARE if self.name.endswith("share") else 1):
            tab = (self.tabs[0].open_beside if self.tabs else self.browser.open)(url + CLIENTS[self.name].page)
            tab.evaluate(SCRIPT)
            tab.evaluate(f"start[{self.name!r}]()")
            self.tabs.append(tab)
        self.begun = [(tab.evaluate("heard.length"), tab.evaluate("state(0).broken")) for tab in self.tabs]

    def close_first(self) -> None:
        """Close the tab that was opened first."""
        self.tabs.pop(0).close()
        self.begun.pop(0)

    def close(self) -> None:
        while self.tabs:
            self.close_first()

    def judge(self, truth: Truth) -> Verdict:
        """Compare what its tabs heard and show with the truth."""
        verdict = Verdict()
        for tab, (heard, broken) in zip(self.tabs, self.begun, strict=True):
            state = tab.evaluate(f"state({heard})")
            self._judge_changes(verdict, state["heard"], truth)
            self._judge_rows(verdict, state, truth)
            verdict.dead |= state["dead"]
            verdict.broken += state["broken"] - broken
        return verdict

    def _judge_changes(self, verdict: Verdict, heard: list[int], truth: Truth) -> None:
        """An element that goes names no change: of pages only what comes into them is compared."""
        is_page = CLIENTS[self.name].page != BLANK
        wanted = [number for number, type in truth.changes.items() if not (is_page and type == "d")]
        verdict.lost += len(set(wanted) - set(heard))
        verdict.twice += sum(Counter(heard).values()) - len(set(heard))
        verdict.out_of_order |= heard != [number for number in wanted if number in set(heard)]

    def _judge_rows(self, verdict: Verdict, state: Any, truth: Truth) -> None:
        for what in ("rows", "live"):
            if state.get(what, truth.rows) != truth.rows:
                verdict.wrong_rows = f"{what}: {len(state[what])}, in the table {len(truth.rows)}"
