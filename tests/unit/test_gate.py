"""The gate: closed by default, one answer for hidden and unknown, and only True opens it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask import abort

from pgevents_push import PGEvents
from pgevents_push.cursor import Snapshot
from pgevents_push.errors import BadParameter, ExposureError, Forbidden, NotExposed, RequestError, Unauthorized
from pgevents_push.event import CHANGE_TYPES, TableName
from pgevents_push.hub import Definition
from pgevents_push.transports.gate import Gate, Opened
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.rights import Authorize, SubscriptionRequest

METADATA = sa.MetaData()
ORDERS = sa.Table(
    "orders",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("total", sa.Integer),
    sa.Column("secret", sa.Text),
)
HIDDEN = sa.Table("hidden", METADATA, sa.Column("id", sa.Integer, primary_key=True))


def gate_of(events: PGEvents, schema: str = "public") -> Gate:
    return Gate(events.declarations.exposures(schema), schema)


def gate(**arguments: Any) -> Gate:
    events = PGEvents()
    events.expose(ORDERS, **arguments)
    return gate_of(events)


def ask(gate: Gate, table: str = "orders", columns: set[str] | None = None) -> Opened:
    wanted = None if columns is None else frozenset(columns)
    return gate.open(TableRequest(table, frozenset(CHANGE_TYPES), wanted), "sse")


def refused(gate: Gate, table: str = "orders", columns: set[str] | None = None) -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask(gate, table, columns)
    return caught.value


# --- Closed by default


def test_what_nobody_exposed_is_not_there() -> None:
    assert type(refused(Gate([], "public"))) is NotExposed


@pytest.mark.parametrize(
    "name",
    [
        "hidden",
        "public.hidden",
        "unknown",
        "pgevents.log",
        "Orders",
        "other.orders",
        "a.b.c",
        '"',
        "",
        "\0",
        "\ud800",
        "x" * 5000,
    ],
)
def test_hidden_unknown_and_impossible_tables_get_the_same_answer(name: str) -> None:
    error = refused(gate(public=True), name)
    assert (type(error), str(error), error.status) == (NotExposed, str(NotExposed()), 404)


@pytest.mark.parametrize("name", ["orders", "public.orders", '"orders"', '"public"."orders"'])
def test_each_spelling_of_the_name_is_the_same_table(name: str) -> None:
    assert ask(gate(public=True), name).table == TableName("public", "orders")


def test_the_default_schema_is_the_apps() -> None:
    events = PGEvents()
    events.expose(ORDERS, public=True)
    shop = gate_of(events, "shop")
    assert ask(shop).table == TableName("shop", "orders")
    assert refused(shop, "public.orders").status == 404


# --- Who may


def test_public_is_everybody() -> None:
    assert ask(gate(public=True)).exposed == frozenset({"id", "total", "secret"})


def test_authorize_is_asked_about_the_subscription() -> None:
    asked: list[SubscriptionRequest] = []

    def may_see(subscription: SubscriptionRequest) -> bool:
        asked.append(subscription)
        return True

    ask(gate(columns=["id", "total"], authorize=may_see), columns={"id"})
    [subscription] = asked
    assert (subscription.table, subscription.columns) == (TableName("public", "orders"), frozenset({"id"}))
    assert (subscription.transport, subscription.types) == ("sse", frozenset(CHANGE_TYPES))


def abort_with(code: int) -> Authorize:
    return lambda subscription: abort(code)


def failing(subscription: SubscriptionRequest) -> bool:
    raise RuntimeError("s3cret")


@pytest.mark.parametrize(
    ("authorize", "error"),
    [
        (lambda s: False, Forbidden),
        (lambda s: None, Forbidden),
        (lambda s: 1, Forbidden),
        (lambda s: "yes", Forbidden),
        (failing, Forbidden),
        (abort_with(401), Unauthorized),
        (abort_with(403), Forbidden),
        (abort_with(404), Forbidden),
        (abort_with(500), Forbidden),
    ],
)
def test_only_true_opens(authorize: Authorize, error: type[RequestError]) -> None:
    found = refused(gate(authorize=authorize))
    assert type(found) is error
    assert str(found) == str(error())  # nothing of the reason


def test_a_wrong_answer_and_a_failure_are_logged_for_the_developer(caplog: pytest.LogCaptureFixture) -> None:
    refused(gate(authorize=lambda s: 1))
    assert "returned int: denied. Return True, False or a SQLAlchemy expression" in caplog.text
    caplog.clear()
    refused(gate(authorize=failing))
    assert "authorize for public.orders failed: denied" in caplog.text


def test_denials_and_failures_are_counted() -> None:
    closed, broken = gate(authorize=lambda s: False), gate(authorize=failing)
    refused(closed), refused(closed), refused(broken)
    assert (closed.counts, broken.counts) == ({"denied": 2}, {"authorize_failures": 1})


# --- Which columns


def test_a_subset_of_the_columns() -> None:
    opened = ask(gate(columns=["id", "total"], public=True), columns={"total"})
    assert (opened.columns, opened.exposed) == (frozenset({"total"}), frozenset({"id", "total"}))


@pytest.mark.parametrize("name", ["secret", "no_such_column", "Total", ""])
def test_a_hidden_and_an_unknown_column_get_the_same_answer(name: str) -> None:
    error = refused(gate(columns=["id", "total"], public=True), columns={"id", name})
    assert type(error) is BadParameter
    assert str(error) == f"columns: {name!r} is not exposed."


def test_exclude() -> None:
    assert ask(gate(exclude=["secret"], public=True)).exposed == frozenset({"id", "total"})


def test_without_columns_it_is_those_of_the_model_so_a_later_one_stays_hidden() -> None:
    assert ask(gate(public=True)).exposed == frozenset({"id", "total", "secret"})


def test_a_star_is_all_columns_also_later_ones() -> None:
    star = gate(columns="*", public=True)
    assert ask(star).exposed is None
    assert ask(star, columns={"anything"}).columns == frozenset({"anything"})  # nobody can be asked here


def test_columns_of_a_table_that_is_not_there_are_not_asked_for_again() -> None:
    """Each time is a connection, and anybody may do it."""
    asked: list[str] = []

    def define(word: str) -> Definition:
        asked.append(word)
        return Definition({}, {}, Snapshot(1, 1), 1)

    events = PGEvents()
    events.expose(ORDERS, columns="*", public=True)
    exposures = events.declarations.exposures("public")
    star = Gate(exposures, "public", lambda _: define("of"), renew=lambda _: define("renewed"))
    assert ask(star, columns={"anything"}).columns == frozenset({"anything"})
    assert "renewed" not in asked


def test_a_table_given_by_name_needs_its_columns() -> None:
    events = PGEvents()
    with pytest.raises(ExposureError, match="given by name needs columns"):
        events.expose("shop.orders", public=True)
    with pytest.raises(ExposureError, match="given by name needs columns"):
        events.expose("shop.orders", exclude=["secret"], public=True)
    events.expose("shop.orders", columns=["id"], public=True)
    assert ask(gate_of(events), "shop.orders").exposed == frozenset({"id"})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "give authorize="),
        ({"public": True, "authorize": lambda s: True}, "give authorize="),
        ({"public": False}, "give authorize="),
        ({"public": True, "columns": ["id"], "exclude": ["total"]}, "not both"),
        ({"public": True, "columns": ["id", "totl"]}, "no such column: totl"),
        ({"public": True, "exclude": ["secert"]}, "no such column: secert"),
        ({"public": True, "columns": "id"}, "take a list of names"),
        ({"public": True, "exclude": "secret"}, "take a list of names"),
        ({"authorize": "may_see"}, "function"),
    ],
)
def test_a_mistake_is_an_error_at_once(arguments: dict[str, Any], text: str) -> None:
    events = PGEvents()
    with pytest.raises(ExposureError, match=text):
        events.expose(ORDERS, **arguments)
    assert events.declarations.exposures("public") == []


def test_columns_from_an_iterator_are_kept() -> None:
    assert ask(gate(columns=iter(["id", "total"]), public=True)).exposed == frozenset({"id", "total"})


def test_a_table_is_exposed_once_and_the_log_never() -> None:
    events = PGEvents()
    events.expose(ORDERS, public=True)
    with pytest.raises(ExposureError, match="exposed already"):
        events.expose("orders", columns="*", public=True)
    with pytest.raises(ExposureError, match="never exposed"):
        events.expose("pgevents.log", columns="*", public=True)


def test_the_developer_is_told_once_what_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    closed = Gate([], "public")
    for name in ["orders", "orders", "evil\nline", *(f"t{n}" for n in range(300))]:
        with pytest.raises(NotExposed):
            closed.open(TableRequest(name, frozenset({"insert"}), None), "sse")
    assert len(caplog.messages) == 100
    assert caplog.messages[0] == "somebody asked for the table 'orders', which is not exposed: see expose()"
    assert not any("\n" in message for message in caplog.messages)
