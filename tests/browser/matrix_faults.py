"""The faults of the matrix: what happens to all clients at once. Each makes sure that it really happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.browser.both import Tab, wait_for
from tests.browser.matrix_clients import CLIENTS, Client
from tests.browser.stage import Stage
from tests.fixtures.servers import WORKERS

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevents_push'"
HIDDEN_SECONDS = 1.5
AWAY_SECONDS = 1.2
ASLEEP_SECONDS = 6.0  # three heartbeats are 3 s; a busy browser looks later


def restart_server(stage: Stage, clients: Collection[Client]) -> None:
    """All of its processes are killed at once; new ones come some seconds later."""
    stage.kill_server()
    stage.start_server()


def proxy_without_server(stage: Stage, clients: Collection[Client]) -> None:
    """Requests are answered 503, then 502, until there were as many as clients."""
    before = stage.gateway.refused
    for stage.gateway.status in (503, 502):
        stage.gateway.cut()
        time.sleep(AWAY_SECONDS)
    wait_for(lambda: stage.gateway.refused - before >= len(clients), lambda: f"{stage.gateway.refused - before} came")
    stage.gateway.status = None


def restart_postgres(stage: Stage, clients: Collection[Client]) -> None:
    stage.postgres.stop()
    stage.postgres.start()


def kill_listeners(stage: Stage, clients: Collection[Client]) -> None:
    killed = 0
    for _ in range(3):
        killed += len(stage.execute(KILL))
        time.sleep(0.4)
    assert killed >= WORKERS


def hide_tabs(stage: Stage, clients: Collection[Client]) -> None:
    """Another tab comes before each of them for a while; in both browsers at the same time."""
    with ThreadPoolExecutor() as threads:
        of_each = [[client.tabs[0] for client in clients if client.browser is browser] for browser in stage.browsers]
        list(threads.map(_hide, of_each))


def _hide(tabs: list[Tab]) -> None:
    others = [(tab, tab.open_beside("about:blank")) for tab in tabs]
    for tab, other in others:
        other.show()
        wait_until_shown(tab, "hidden")
    time.sleep(HIDDEN_SECONDS)
    for tab, other in others:
        tab.show()
        wait_until_shown(tab, "visible")
        other.close()


def wait_until_shown(tab: Tab, state: str) -> None:
    wait_for(lambda: tab.evaluate("document.visibilityState") == state, lambda: f"never {state}")


def close_leaders(stage: Stage, clients: Collection[Client]) -> None:
    """The tab that has the connection for all is closed. The lock is handed on in the order in which tabs came."""
    for client in clients:
        if len(client.tabs) > 1:
            client.close_first()
    time.sleep(1.0)


def cut_network(stage: Stage, clients: Collection[Client]) -> None:
    for _ in range(3):
        stage.gateway.cut()
        time.sleep(0.7)


def sleep_server(stage: Stage, clients: Collection[Client]) -> None:
    """The server stands still, as it would seem to a laptop that wakes up, for longer than three heartbeats."""
    groups = [process.pid for process in stage.serving.processes]
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    time.sleep(ASLEEP_SECONDS)
    for group in groups:
        os.killpg(group, signal.SIGCONT)


class Fault(NamedTuple):
    """:param noticed_by: clients that must have lost their connection by it, else it did not happen."""

    happen: Callable[[Stage, Collection[Client]], None]
    noticed_by: Collection[str] = ()


TELLING = [name for name, (_, tells) in CLIENTS.items() if tells]
WATCHFUL = [name for name in TELLING if "alone" not in name and name != "EventSource"]
FAULTS: dict[str, Fault] = {
    "tab hidden and shown": Fault(hide_tabs),
    "network cut": Fault(cut_network, TELLING),
    "listener killed": Fault(kill_listeners),
    "server stopped and continued": Fault(sleep_server, WATCHFUL),
    "PostgreSQL restarted": Fault(restart_postgres),
    "server killed and restarted": Fault(restart_server, TELLING),
    "503 and 502 window": Fault(proxy_without_server, TELLING),
    "leading tab closed": Fault(close_leaders),
}
# The browser's own EventSource ends for ever with the first answer that is not 200: the HTML standard wants it so.
IMPOSSIBLE = {("503 and 502 window", "EventSource"), ("503 and 502 window", "Turbo alone")}
