"""What is known of columns: asked for once, by one of a crowd, again when it changed, and never waited for in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from pgevents_push.errors import ConnectionLost
from pgevents_push.event import TableName
from pgevents_push.extension.definitions import FAILED_SECONDS, RENEWED_SECONDS, Definitions
from pgevents_push.listener import Connection

ORDERS, LINES, ABSENT = (TableName("public", name) for name in ("orders", "lines", "absent"))


class Catalog:
    """Answers the statements of a definition; counts who connects."""

    def __init__(self) -> None:
        self.stamp = "700"
        self.connections = self.closed = 0
        self.away = False
        self.asked: list[str] = []
        self.before: Callable[[], object] = lambda: None

    def connect(self) -> Connection:
        self.connections += 1
        self.before()
        if self.away:
            raise ConnectionLost("gone")
        return cast(Connection, self)

    def execute(self, statement: str, parameters: Any = None) -> list[Any]:
        if "tables" in (parameters or {}):
            [name] = parameters["tables"]
            self.asked.append(name)
            return [] if name == "absent" else [("public", name, {"id": self.stamp})]
        if "schema" in (parameters or {}):
            return (
                [] if parameters["name"] == "absent" else [("id", "integer", [], True, True, None, True, False, None)]
            )
        return [("800:800:", "799", "abcd")] if "snapshot()::text," in statement else [(900,)]

    def close(self) -> None:
        self.closed += 1


def test_a_table_is_asked_about_once() -> None:
    catalog = Catalog()
    known = Definitions(catalog.connect)
    first = known.of(ORDERS)
    assert known.of(ORDERS) is first
    assert (list(first.columns), first.shape, first.xmax) == (["id"], {"id": "700"}, 900)
    assert (catalog.connections, catalog.closed) == (1, 1)


def test_many_are_asked_about_on_one_connection() -> None:
    catalog = Catalog()
    known = Definitions(catalog.connect)
    known.learn([ORDERS, LINES])
    known.learn([ORDERS, LINES])
    known.of(LINES)
    assert (catalog.connections, catalog.asked) == (1, ["orders", "lines"])


def test_it_is_asked_anew_only_when_the_columns_are_others() -> None:
    catalog = Catalog()
    known = Definitions(catalog.connect)
    first = known.of(ORDERS)
    known.forget(ORDERS, {"id": "700"})
    known.forget(LINES, {})
    assert known.of(ORDERS) is first
    catalog.stamp = "900"
    known.forget(ORDERS, {"id": "900"})
    assert known.of(ORDERS).shape == {"id": "900"}
    known.forget_all()
    known.of(ORDERS)
    assert catalog.connections == 3


def test_a_table_that_is_not_there_is_looked_for_each_time() -> None:
    catalog = Catalog()
    known = Definitions(catalog.connect)
    assert known.of(ABSENT).columns == {}
    known.of(ABSENT)
    assert catalog.connections == 2


def test_of_a_crowd_one_asks() -> None:
    catalog = Catalog()
    known, inside, go = Definitions(catalog.connect), threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        go.wait(30)

    catalog.before = wait
    found: list[object] = []
    crowd = [threading.Thread(target=lambda: found.append(known.of(ORDERS))) for _ in range(8)]
    for thread in crowd:
        thread.start()
    assert inside.wait(30)
    go.set()
    for thread in crowd:
        thread.join(30)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert catalog.connections == 1


def test_a_crowd_does_not_wait_one_by_one_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pgevents_push.extension.definitions.time.monotonic", lambda: now[0])
    catalog = Catalog()
    known = Definitions(catalog.connect)
    catalog.away = True
    for _ in range(5):
        with pytest.raises(ConnectionLost, match="gone"):
            known.of(ORDERS)
    known.learn([ORDERS])
    assert catalog.connections == 1
    now[0] += FAILED_SECONDS
    catalog.away = False
    assert known.of(ORDERS).shape


def test_what_is_known_stays_known_while_the_database_is_away() -> None:
    catalog = Catalog()
    known = Definitions(catalog.connect)
    first = known.of(ORDERS)
    catalog.away = True
    assert known.of(ORDERS) is first


def test_who_asks_for_a_new_column_makes_it_known_but_not_more_than_once_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr("pgevents_push.extension.definitions.time.monotonic", lambda: now[0])
    catalog = Catalog()
    known = Definitions(catalog.connect)
    first = known.of(ORDERS)
    catalog.stamp = "900"
    assert [known.renewed(ORDERS) for _ in range(3)] == [first] * 3
    now[0] += RENEWED_SECONDS
    assert [known.renewed(ORDERS).shape for _ in range(3)] == [{"id": "900"}] * 3
    assert known.of(ORDERS).shape == {"id": "900"}
    assert catalog.connections == 2
    now[0] += RENEWED_SECONDS
    catalog.away = True
    with pytest.raises(ConnectionLost):
        known.renewed(ORDERS)
    assert known.of(ORDERS).shape == {"id": "900"}
