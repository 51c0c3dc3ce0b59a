"""The dispatcher raises nothing, whatever is registered, and keeps nobody who is registered no longer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from flask import Flask

from pgevents_push import waiting
from pgevents_push.capture import resolve
from pgevents_push.event import CHANGE_TYPES, ChangeEvent
from pgevents_push.handlers import Dispatcher, Handler
from pgevents_push.testing import make_event
from tests.fixtures.patience import wait_until


def handler(function: Callable[[ChangeEvent], object]) -> Handler:
    return Handler(function, resolve("orders"), frozenset(CHANGE_TYPES))


def order() -> ChangeEvent:
    return make_event("orders", row={"id": 1})


@pytest.fixture
def handlers() -> list[Handler]:
    return []


@pytest.fixture
def dispatcher(handlers: list[Handler]) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(Flask("shop"), lambda: handlers, 1000)
    yield dispatcher
    dispatcher.stop(0.2)


@dataclass
class Collector:
    """A callable that has no hash."""

    ids: list[str] = field(default_factory=list)

    def __call__(self, event: ChangeEvent) -> None:
        self.ids.append(event.id)


def test_a_callable_object_without_a_hash_is_a_handler(dispatcher: Dispatcher, handlers: list[Handler]) -> None:
    one, two = Collector(), Collector()
    handlers += [handler(one), handler(two), handler(functools.partial(Collector.__call__, one))]
    event = order()
    dispatcher.dispatch([event])
    wait_until(lambda: (sorted(one.ids), two.ids) == ([event.id, event.id], [event.id]))


def test_a_handler_that_cannot_run_costs_nobody_else_anything(
    dispatcher: Dispatcher, handlers: list[Handler], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = Collector(), Collector()
    handlers += [handler(one), handler(two)]
    spawn, left = waiting.spawn, [1]

    def spawn_all_but_the_first(*arguments: object, name: str) -> waiting.Task:
        if left:
            left.pop()
            raise RuntimeError("can't start new thread")
        return spawn(*arguments, name=name)  # type: ignore[arg-type]

    monkeypatch.setattr(waiting, "spawn", spawn_all_but_the_first)
    first, second = order(), order()
    dispatcher.dispatch([first, second])
    wait_until(lambda: (one.ids, two.ids) == ([second.id], [first.id, second.id]))
    assert f"misses event {first.id}" in caplog.text


def test_a_handler_that_was_removed_leaves_no_thread(dispatcher: Dispatcher, handlers: list[Handler]) -> None:
    gone, stays = Collector(), Collector()
    handlers += [handler(gone), handler(stays)]
    dispatcher.dispatch([order()])
    wait_until(lambda: gone.ids and stays.ids)
    del handlers[0]
    dispatcher.dispatch([order()])
    wait_until(lambda: len(stays.ids) == 2)
    assert len(gone.ids) == 1
    assert len(dispatcher.tallies()) == 1


def test_a_function_of_several_handlers_gets_all_in_order(dispatcher: Dispatcher, handlers: list[Handler]) -> None:
    heard: list[str] = []

    def hear(event: ChangeEvent) -> None:
        heard.append(event.type)

    handlers += [Handler(hear, resolve("orders"), frozenset({type_})) for type_ in CHANGE_TYPES]
    wanted = ["insert", "update", "delete", "truncate"] * 50
    rows = {"insert": {"row": {"id": 1}}, "update": {"row": {"id": 1}, "old": {"id": 2}}, "delete": {"old": {"id": 1}}}
    dispatcher.dispatch([make_event("orders", type_, **rows.get(type_, {})) for type_ in wanted])  # type: ignore[arg-type]
    wait_until(lambda: len(heard) == len(wanted))
    assert heard == wanted
