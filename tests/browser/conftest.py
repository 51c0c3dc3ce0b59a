"""Fixtures of the browser tests: the running demo, Chromium, and tabs whose console must stay clean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.both import KINDS, both
from tests.browser.both import Browser as EitherBrowser
from tests.browser.chromium import DEADLINE_SECONDS, OpenTab, launch
from tests.browser.running_demo import RunningDemo
from tests.browser.stage import Stage, staged


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browsers take both cores, and their pages tell the time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.alone)


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    running = RunningDemo()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while Playwright runs, this thread has an event loop.
    with sync_playwright() as playwright:
        chromium = launch(playwright)
        yield chromium
        chromium.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the consoles of the test's tabs said; must be empty at its end."""
    return []


@pytest.fixture
def open_tab(browser: Browser, demo: RunningDemo, complaints: list[str]) -> Iterator[OpenTab]:
    """Open the board in a tab of one common browser window and wait until it is live."""
    contexts: list[BrowserContext] = []

    def opening(width: int = 1366, height: int = 768, **options: object) -> Page:
        if not contexts or options:
            contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))  # type: ignore[arg-type]
        tab = contexts[-1].new_page()
        tab.set_default_timeout(DEADLINE_SECONDS * 1000)
        tab.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(demo.url)
        tab.wait_for_selector("#state[data-state=live]")
        tab.wait_for_selector(".card")
        return tab

    yield opening
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def browsers() -> Iterator[tuple[EitherBrowser, ...]]:
    """Chromium and Firefox as they are installed, not under Playwright."""
    with both() as running:
        yield running


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def either(browsers: tuple[EitherBrowser, ...], request: pytest.FixtureRequest) -> EitherBrowser:
    """One of them: what uses it runs in both."""
    return browsers[KINDS.index(request.param)]


@pytest.fixture(scope="session")
def stage(browsers: tuple[EitherBrowser, ...]) -> Iterator[Stage]:
    with staged(browsers) as running:
        yield running
