"""The ledger keeps one connection, replaces it when it has died, and picks revocations out of the log."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pgevents_push.errors import ConnectionLost
from pgevents_push.event import ChangeEvent
from pgevents_push.extension.ledger import Ledger, revoked
from pgevents_push.listener import Connection


class Line:
    """A connection that plays what it is told."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []
        self.closed = False

    def execute(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        self.asked.append((statement, parameters))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [(answer,)]

    def close(self) -> None:
        self.closed = True


def ledger(*lines: Line) -> Ledger:
    left = list(lines)
    return Ledger(lambda: cast(Connection, left.pop(0)))


def test_one_connection_serves_many() -> None:
    line = Line(True, False, None)
    book = ledger(line)
    assert (book.spend("a"), book.spend("a")) == (True, False)
    book.revoke("ann")
    assert line.asked[-1] == ("SELECT pgevents.revoke_v1(%s)", ["ann"])
    book.close()
    assert line.closed


def test_a_connection_that_died_is_replaced_once() -> None:
    first, second = Line(True, ConnectionLost("gone")), Line(True)
    book = ledger(first, second)
    book.spend("a")
    assert book.spend("b") is True
    assert (first.closed, second.closed) == (True, False)


def test_a_database_that_is_away_is_said_and_asked_again_the_next_time() -> None:
    away, back = Line(ConnectionLost("away")), Line(True)
    book = ledger(away, back)
    with pytest.raises(ConnectionLost, match="away"):
        book.spend("a")
    assert away.closed
    assert book.spend("a") is True


def test_closing_before_and_twice() -> None:
    line = Line(None)
    book = ledger(line)
    book.close()
    book.revoke("ann")  # somebody was quicker: it is said, and nothing stays open
    assert line.closed
    book.close()


def event(schema: str, table: str, pk: str) -> ChangeEvent:
    return ChangeEvent(
        id="1", type="insert", schema=schema, table=table, tx="1", last=True, at_text="2026-01-01T00:00:00+00:00",
        cursor="", pk_json=pk,
    )  # fmt: skip


def test_revocations_are_found_and_nothing_else_is_one() -> None:
    events = [
        event("public", "revoked", '{"identity": "mallory"}'),
        event("pgevents", "revoked", '{"identity": "ann\\u00e9\\"\\n"}'),
        event("pgevents", "other", '{"identity": "bob"}'),
        event("pgevents", "revoked", '{"identity": "7"}'),
    ]
    assert revoked(events) == ['ann\u00e9"\n', "7"]
