"""Network: between the app and PostgreSQL it gets slow, falls to pieces, swallows or resets, while programs write.

Every handler of both workers and every client of both transports gets each change once and in order, and who is
connected hears of nothing but changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.faults import writers
from tests.faults.everybody import CLIENTS, check_everybody, last_insert, own_database
from tests.faults.soak_nemeses import frozen
from tests.fixtures.clients import RunningClients, start_clients
from tests.fixtures.postgres import Database
from tests.fixtures.proxy import Mode, Proxy
from tests.fixtures.servers import Serving, serving

pytestmark = pytest.mark.alone

SECONDS = 3.0
# Under 10 kB a second even a slow writer makes more than the wire takes: what is held up must come after it.
LOAD = writers.Load(seed=5, table="orders", writers=2, long_share=0.5, longest_seconds=0.1)
# An answer takes 1 s while the proxy delays by 0.5 s each way. The deadline is so much longer that a machine which
# stands still for a moment does not look like a server that says nothing.
SETTINGS: dict[str, Any] = {"connect_timeout_seconds": 4.0, "heartbeat_seconds": 1.0}
NOTICED_SECONDS = 30.0


class Scene:
    """The app behind the proxy, and clients that stay connected from the first fault to the last."""

    def __init__(self, database: Database, proxy: Proxy, server: Serving, clients: RunningClients) -> None:
        self.database, self.proxy, self.server, self.clients = database, proxy, server, clients
        self.number = 10_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with own_database(tmp_path_factory.mktemp("network")) as database, Proxy(int(database.dsn["port"])) as proxy:
        url = f"postgresql+psycopg2://postgres@127.0.0.1:{proxy.port}/postgres"
        with (
            serving("gevent", url, **SETTINGS) as server,
            start_clients(server.ports, ["orders"], CLIENTS, CLIENTS) as clients,
        ):
            yield Scene(database, proxy, server, clients)


def through(mode: Mode, scene: Scene) -> None:
    scene.proxy.mode = mode
    time.sleep(SECONDS)
    scene.proxy.mode = "open"


def hole(scene: Scene) -> None:
    scene.proxy.mode = "hole"
    until_noticed(scene)
    scene.proxy.mode = "open"


def until_noticed(scene: Scene) -> None:
    """Wait until both workers know that the server says nothing."""
    server = scene.server
    server.until(lambda: set(server.statuses().values()) == {"reconnecting"}, NOTICED_SECONDS, server.statuses)


def reset(scene: Scene) -> None:
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        scene.proxy.cut()
        time.sleep(0.3)


def freeze(scene: Scene) -> None:
    assert scene.database.server.postgres is not None
    with frozen(scene.database.server.postgres):
        until_noticed(scene)


FAULTS: dict[str, Callable[[Scene], None]] = {
    "latency": partial(through, "delay"),
    "one byte at a time": partial(through, "bytes"),
    "throttled": partial(through, "throttle"),
    "black hole": hole,
    "reset": reset,
    "frozen": freeze,
}

LOSES_CONNECTION = {"black hole", "reset", "frozen"}


@pytest.mark.parametrize("fault", FAULTS)
def test_nobody_loses_doubles_or_swaps_a_change(scene: Scene, fault: str) -> None:
    before = len(scene.server.lines())
    with writers.writing(scene.database.connect, LOAD):
        FAULTS[fault](scene)
    scene.number += 1
    reports = scene.clients.until(last_insert(scene.database, scene.number))
    assert check_everybody(scene.database, scene.server, reports) > 20
    lost = {line["pid"] for line in scene.server.lines()[before:] if line.get("status") == "reconnecting"}
    assert lost == (scene.server.pids if fault in LOSES_CONNECTION else set())
