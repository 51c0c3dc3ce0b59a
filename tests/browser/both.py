"""Both browsers, driven alike: each tab of them is opened, asked, shown and closed in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from tests.browser.devtools import Chromium, ChromiumTab
from tests.browser.firefox import Firefox, FirefoxTab

Browser = Chromium | Firefox
Tab = ChromiumTab | FirefoxTab
DEADLINE_SECONDS = 30.0
KINDS: tuple[type[Browser], ...] = (Chromium, Firefox)


@contextmanager
def both() -> Iterator[tuple[Browser, ...]]:
    """Start them at the same time: each needs some seconds, mostly for its disk."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        started: list[Future[Browser]] = [threads.submit(kind) for kind in KINDS]
        for future in started:
            future.add_done_callback(lambda done: done.exception() or stack.callback(done.result().close))
        yield tuple(future.result() for future in started)


def wait_for(true: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait until something is so; else say `what` is."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
