"""What is declared wrongly is refused at once, with a message that names the remedy."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from pgevents_push import PGEvents
from pgevents_push.errors import ConfigurationError, ExposureError, TargetError
from pgevents_push.event import TableName

ORDERS = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("item", sa.Text))


def no_argument() -> None: ...


def two_arguments(event: object, more: object) -> None: ...


async def coroutine(event: object) -> None: ...


def generator(event: object) -> Iterator[int]:
    yield 1


async def both(event: object) -> AsyncIterator[int]:
    yield 1


USELESS = [
    (no_argument, "one argument, which no_argument is not"),
    (two_arguments, "one argument, which two_arguments is not"),
    (coroutine, "coroutine is async"),
    (both, "both is async"),
    (generator, "generator has a yield"),
    (True, "takes a function, not True"),
]


@pytest.mark.parametrize(("function", "message"), USELESS)
def test_a_function_that_would_never_run_is_refused(function: Any, message: str) -> None:
    events = PGEvents()
    with pytest.raises(ConfigurationError, match=rf"^A handler of public\.orders .*{message}"):
        events.on_insert(ORDERS)(function)
    with pytest.raises(ConfigurationError, match=rf"^when= of a handler of public\.orders .*{message}"):
        events.on_insert(ORDERS, when=function)(print)
    with pytest.raises(ExposureError, match=rf"^expose\(public\.orders\): authorize= .*{message}"):
        events.expose(ORDERS, authorize=function)
    assert events.declarations.targets("public") == []


def filled_in(function: Callable[..., object]) -> Callable[[object], object]:
    @functools.wraps(function)
    def call(event: object) -> object:
        return function(event, "more")

    return call


class Callee:
    def method(self, event: object) -> None: ...

    def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize(
    "function",
    [filled_in(two_arguments), Callee(), Callee().method, functools.partial(two_arguments, more=1), [].append],
)
def test_whatever_takes_an_event_is_a_handler(function: Any) -> None:
    events = PGEvents()
    events.on_insert(ORDERS, when=function)(function)
    events.expose(ORDERS, authorize=function)
    assert [target.name.name for target in events.declarations.targets("public")] == ["orders"]


def test_a_decorator_without_its_table_is_an_error() -> None:
    with pytest.raises(TargetError, match=r"no_argument.* is not a table"):
        PGEvents().on_insert(no_argument)


def test_columns_are_names_and_a_wrong_one_is_told_which_there_are() -> None:
    events = PGEvents()
    for wrong in ("item", [ORDERS.c.item], [1]):
        with pytest.raises(ConfigurationError, match="list of names"):
            events.on_update(ORDERS, columns=wrong)(print)  # type: ignore[arg-type]
        with pytest.raises(ExposureError, match="list of names"):
            events.expose(ORDERS, columns=wrong, public=True)  # type: ignore[arg-type]
        with pytest.raises(ExposureError, match="list of names"):
            events.expose(ORDERS, exclude=wrong, public=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"no column itm\. It has: id, item"):
        events.on_update(ORDERS, columns=["itm"])(print)
    with pytest.raises(ExposureError, match=r"no such column: itm\. There is: id, item"):
        events.expose(ORDERS, columns=["itm"], public=True)


def test_who_may_see_it_is_said_once() -> None:
    events = PGEvents()
    with pytest.raises(ExposureError, match=r"everybody may\), not both"):
        events.expose(ORDERS, public=True, authorize=lambda _: True)
    events.expose(ORDERS, public=True)
    with pytest.raises(ExposureError, match="not in create_app"):
        events.expose(ORDERS, public=True)


def app() -> Flask:
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://nobody@192.0.2.1:1/none"
    return app


@pytest.mark.parametrize("options", [{}, {"name": "second", "url_prefix": "/second"}])
def test_a_second_instance_of_the_same_name_is_refused(options: dict[str, str]) -> None:
    one, other, shop = PGEvents(), PGEvents(), app()
    one.init_app(shop)
    with pytest.raises(ConfigurationError, match=r'another PGEvents called \'pgevents\'.*"AUDIT_PGEVENTS"'):
        shop.register_blueprint(other.blueprint, **options)
    shop.register_blueprint(one.blueprint, name="second", url_prefix="/second")
    other.init_app(app())


@pytest.mark.parametrize("prefix", ["audit", "Audit", "AUDIT_", "", "AUDIT PGEVENTS", "1A"])
def test_a_prefix_that_no_setting_can_have(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="in capitals"):
        PGEvents(config_prefix=prefix)


def test_how_a_table_is_captured_is_said_once_for_all() -> None:
    events = PGEvents()
    events.expose(ORDERS, public=True)
    events.on_change("orders", types=["insert"], capture="statement")(print)
    events.on_change(ORDERS, capture="statement")(str)
    events.on_change("shop.orders", types=["delete"], capture="key")(str)
    events.listen("lines", {"insert"}, lambda *_: None)
    assert {name.asked("public"): mode for name, mode in events.declarations.modes("public").items()} == {
        "orders": "statement",
        "shop.orders": "key",
        "lines": "row",
    }
    with pytest.raises(ConfigurationError, match="there is one log"):  # there both are the same table
        events.declarations.modes("shop")


@pytest.mark.parametrize("first", ["row", "statement"])
def test_two_that_disagree_are_refused(first: Any) -> None:
    events = PGEvents()
    events.expose(ORDERS, public=True, capture=first)
    with pytest.raises(ConfigurationError, match=rf'public\.orders is declared with .*"{first}".*: there is one log'):
        events.on_change("orders", types=["update"], capture="key")(print)
    events.on_change("orders", types=["update"], capture=first)(print)
    assert events.declarations.modes("public") == {TableName("public", "orders"): first}


def test_two_that_are_one_table_for_an_app_only_are_refused_when_it_registers() -> None:
    events = PGEvents()
    events.on_change("orders", types=["insert"], capture="key")(print)
    events.on_change("shop.orders", types=["insert"], capture="row")(print)
    app = Flask("app")
    app.config.update(PGEVENTS_DATABASE_URL="postgresql:///none", PGEVENTS_DEFAULT_SCHEMA="shop")
    with pytest.raises(ConfigurationError, match=r"shop\.orders is declared with"):
        app.register_blueprint(events.blueprint)


@pytest.mark.parametrize("given", ["rows", "", True, ["row"]])
def test_there_are_three_ways_to_capture(given: Any) -> None:
    events = PGEvents()
    for declare in (lambda: events.on_change(ORDERS, types=["insert"], capture=given)(print),
                    lambda: events.expose(ORDERS, public=True, capture=given)):  # fmt: skip
        with pytest.raises(ConfigurationError, match="capture= takes one of 'row', 'statement', 'key'"):
            declare()
    assert events.declarations.targets("public") == []


def test_what_needs_more_than_a_key_is_refused_where_only_that_is_captured() -> None:
    """In whichever order it is declared."""
    more: dict[str, Callable[[PGEvents], object]] = {
        "A handler of public.orders has columns=": lambda e: e.on_update(ORDERS, columns=["id", "item"])(print),
        "A handler of public.orders has columns=, ": lambda e: e.on_update("orders", columns=["id"])(print),
        "expose(public.orders) has columns=": lambda e: e.expose(ORDERS, columns=["id", "item"], public=True),
        "expose(public.orders) has rls=": lambda e: e.expose(ORDERS, rls=lambda _: {"role": "web"}),
        "fragment(public.orders) shows rows": lambda e: e.fragment(ORDERS, template="order.html", target="#orders"),
    }
    for message, declare in more.items():
        for key_first in (True, False):
            events = PGEvents()
            if key_first:
                events.on_change(ORDERS, types=["delete"], capture="key")(print)
            else:
                declare(events)
            with pytest.raises(ConfigurationError, match=re.escape(message)):
                declare(events) if key_first else events.on_change(ORDERS, types=["delete"], capture="key")(print)
    events = PGEvents()
    events.on_change(ORDERS, columns=["id"], types=["update"], capture="key")(print)
    events.expose(ORDERS, exclude=["item"], public=True)
