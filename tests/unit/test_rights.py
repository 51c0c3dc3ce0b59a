"""Whose rows: what `authorize` may answer, which filters are let through, and that a hidden column does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from pgevents_push import PGEvents
from pgevents_push.cursor import Snapshot
from pgevents_push.errors import BadParameter, ConnectionLost, Forbidden, RequestError, Unavailable
from pgevents_push.event import CHANGE_TYPES, TableName
from pgevents_push.hub import Definition
from pgevents_push.transports.gate import Gate, Opened
from pgevents_push.transports.request import TableRequest
from tests.fixtures.views import COLUMNS, where

SHAPE = dict.fromkeys(COLUMNS, "700")
DEFINITION = Definition(COLUMNS, SHAPE, Snapshot(800, 800), 800)
TABLE = sa.Table("orders", sa.MetaData(), *(sa.Column(name, sa.Integer) for name in COLUMNS))
OTHER = sa.Table("invoices", sa.MetaData(), sa.Column("owner_id", sa.Integer))


class Door:
    """A gate with one table, whose columns somebody knows."""

    def __init__(self, target: object = TABLE, define: Any = None, **arguments: Any) -> None:
        events = PGEvents()
        events.expose(target, **arguments)
        self.asked: list[TableName] = []
        self.gate = Gate(events.declarations.exposures("public"), "public", define or self._define)

    def _define(self, table: TableName) -> Definition:
        self.asked.append(table)
        return DEFINITION

    def open(self, *filters: str, columns: frozenset[str] | None = None) -> Opened:
        return self.gate.open(TableRequest("orders", frozenset(CHANGE_TYPES), columns, filters), "sse")

    def refused(self, *filters: str) -> RequestError:
        with pytest.raises(RequestError) as caught:
            self.open(*filters)
        return caught.value


def answering(answer: Any) -> Callable[[Any], Any]:
    return lambda subscription: answer


def test_a_mistyped_column_of_a_table_given_by_name_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    door = Door("orders", columns=["id", "stauts"], public=True)
    for _ in range(2):
        assert door.open().columns == frozenset({"id", "stauts"})
    assert [record.message.partition(" There")[0] for record in caplog.records] == [
        "expose(public.orders): PostgreSQL has no such column for triggers: stauts."
    ]


# --- Columns of a table of which all is exposed


@pytest.mark.parametrize("name", ["titel", "Status", "xmin"])
def test_a_mistyped_column_is_refused_as_a_hidden_one_is(name: str) -> None:
    listed, star = Door(columns=["id", "status"], public=True), Door("orders", columns="*", public=True)
    answers = set()
    for door in (listed, star):
        with pytest.raises(BadParameter) as caught:
            door.open(columns=frozenset({"id", name}))
        answers.add(str(caught.value))
    assert answers == {f"columns: {name!r} is not exposed."}
    assert star.open(columns=frozenset({"id", "secret"})).columns == frozenset({"id", "secret"})


def test_who_may_not_see_the_table_does_not_learn_its_columns() -> None:
    door = Door("orders", columns="*", authorize=answering(False))
    for name in ("status", "titel"):
        with pytest.raises(Forbidden):
            door.open(columns=frozenset({name}))


def test_a_column_is_not_refused_while_nobody_can_tell() -> None:
    def away(table: TableName) -> Definition:
        raise ConnectionLost("gone")

    absent = Definition({}, {}, Snapshot(800, 800), 800)
    for define in (away, lambda table: absent):
        door = Door("orders", define=define, columns="*", public=True)
        assert door.open(columns=frozenset({"anything"})).columns == frozenset({"anything"})


# --- Rights


def test_an_expression_is_the_condition() -> None:
    assert Door(authorize=answering(TABLE.c.owner_id == 7)).open().condition == where("owner_id=eq.7")
    assert Door(authorize=answering(True)).open().condition is None
    assert Door(public=True).open().condition is None


def test_a_filter_narrows_the_rights_and_never_widens_them() -> None:
    opened = Door(authorize=answering(TABLE.c.owner_id == 7)).open("or=(owner_id.eq.8,status.eq.open)")
    assert opened.condition is not None
    assert opened.condition.equalities == {"owner_id": frozenset({7})}
    row = {"id": 1, "owner_id": 8, "status": "open", "total": 1, "secret": None}
    assert not opened.condition.holds(row)
    assert opened.condition.holds({**row, "owner_id": 7})


def test_a_table_without_a_model_has_its_columns_from_the_catalog() -> None:
    door = Door("orders", columns=["id"], authorize=lambda subscription: subscription.c.owner_id == 7)
    assert door.open().condition == where("owner_id=eq.7")


def test_a_column_that_is_compared_need_not_be_shown() -> None:
    opened = Door(columns=["id", "status"], authorize=answering(TABLE.c.secret == "x")).open()
    assert (opened.columns, opened.exposed) == (frozenset({"id", "status"}), frozenset({"id", "status"}))
    assert opened.condition == where("secret=eq.x")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (sa.func.lower(TABLE.c.status) == "open", "cannot be judged on changes: denied"),
        (TABLE.c.owner_id.in_(sa.select(OTHER.c.owner_id)), "cannot be judged on changes: denied"),
        (OTHER.c.owner_id == 7, "cannot be judged on changes: denied"),
        (sa.column("no_such_column") == 7, "cannot be judged on changes: denied"),
        (sa.text("true"), "returned TextClause: denied"),
        ("owner_id = 7", "returned str: denied"),
        (1, "returned int: denied"),
        ([True], "returned list: denied"),
    ],
)
def test_what_cannot_be_judged_exactly_denies_and_says_how_to_write_it(
    answer: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    door = Door(authorize=answering(answer))
    error = door.refused()
    assert (type(error), str(error)) == (Forbidden, str(Forbidden()))
    assert why in caplog.text
    assert sum(door.gate.counts.values()) == 1


def test_unsupported_rights_have_a_count_of_their_own() -> None:
    door = Door(authorize=answering(sa.func.lower(TABLE.c.status) == "open"))
    door.refused(), door.refused()
    assert door.gate.counts == {"unsupported_rights": 2}


def test_rights_are_asked_for_each_time() -> None:
    users = [7, 8]
    door = Door(authorize=lambda subscription: TABLE.c.owner_id == users.pop())
    assert [door.open().condition for _ in range(2)] == [where("owner_id=eq.8"), where("owner_id=eq.7")]


# --- Filters


def test_filters_must_all_hold() -> None:
    assert Door(public=True).open("owner_id=eq.7", "status=eq.open").condition == where(
        "and=(owner_id.eq.7,status.eq.open)"
    )


@pytest.mark.parametrize("name", ["secret", "no_such_column", "Status", "public", "orders.status"])
def test_a_hidden_column_is_an_unknown_column(name: str) -> None:
    door = Door(columns=["id", "status"], public=True)
    error = door.refused(f"{name}=eq.x")
    assert type(error) is BadParameter
    assert str(error) == str(Door("orders", columns=["id", "status"], public=True).refused(f"{name}=eq.x"))
    unknown = door.refused("qqqq=eq.x")
    assert str(error).replace(name, "qqqq") == str(unknown)


def test_rights_are_asked_before_a_filter_is_looked_at() -> None:
    """Else a stranger learns columns and their types from the errors."""
    door = Door(authorize=answering(False))
    assert type(door.refused("nonsense")) is Forbidden
    assert door.asked == []


@pytest.mark.parametrize("text", ["", "status", "=", "status=xx.1", "owner_id=eq.seven", "and=(", "total=in.()x"])
def test_a_bad_filter_is_named(text: str) -> None:
    error = Door(public=True).refused(text)
    assert type(error) is BadParameter
    assert str(error).startswith("filter: ")


# --- Whose columns nobody can ask for


def away(table: TableName) -> Definition:
    raise ConnectionLost("gone")


def test_a_database_that_is_away_holds_up_only_who_compares_something() -> None:
    assert Door(public=True, define=away).open().mark is None
    for error in (
        Door(public=True, define=away).refused("status=eq.open"),
        Door(define=away, authorize=answering(TABLE.c.owner_id == 7)).refused(),
        Door("orders", columns=["id"], define=away, authorize=lambda s: s.c.owner_id == 7).refused(),
    ):
        assert (type(error), error.retry_after) == (Unavailable, 2)


def test_a_table_that_is_to_come_is_waited_for() -> None:
    absent = Definition({}, {}, Snapshot(1, 1), 1)
    assert Door(public=True, define=lambda table: absent).open().mark is None
    assert type(Door(public=True, define=lambda table: absent).refused("status=eq.open")) is Unavailable


# --- Marks


def test_a_mark_is_of_what_is_shown_and_compared() -> None:
    def marked(**arguments: Any) -> set[str]:
        mark = Door(**arguments).open().mark
        assert mark is not None
        return {name for name, _ in mark.stamps}

    assert marked(public=True) == set(COLUMNS)
    assert marked(columns=["id", "status"], public=True) == {"id", "status"}
    assert marked(columns=["id"], authorize=answering(TABLE.c.owner_id == 7)) == {"id", "owner_id"}
    assert marked(columns="*", public=True) == set(COLUMNS)
