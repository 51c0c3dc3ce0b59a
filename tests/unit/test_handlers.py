"""Handlers run in order, each in a queue of its own; what one does harms nobody else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, current_app, g, has_app_context

from pgevents_push import signals
from pgevents_push.capture import resolve
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, ChangeType
from pgevents_push.handlers import Dispatcher, Handler
from pgevents_push.testing import make_event, wait_until

SECONDS = 5.0


def handler(function: Callable[[ChangeEvent], object], *types: ChangeType, **more: Any) -> Handler:
    return Handler(function, resolve("orders"), frozenset(types or CHANGE_TYPES), **more)


@pytest.fixture
def app() -> Flask:
    return Flask("shop")


class Desk:
    """A dispatcher with handlers that the test gives."""

    def __init__(self, app: Flask, most: int = 1000) -> None:
        self.handlers: list[Handler] = []
        self.dispatcher = Dispatcher(app, lambda: self.handlers, most)

    def take(self, *events: ChangeEvent) -> None:
        self.dispatcher.dispatch(events)

    def tally(self, number: int = 0) -> dict[str, int]:
        return dict(self.dispatcher.tallies()[number].counts)


@pytest.fixture
def desk(app: Flask) -> Iterator[Desk]:
    desk = Desk(app)
    yield desk
    desk.dispatcher.stop(0.2)


def order(number: int, type_: ChangeType = "insert", **more: Any) -> ChangeEvent:
    return make_event("orders", type_, row={"id": number}, **more)


def test_each_handler_gets_what_it_asked_for_in_order(desk: Desk) -> None:
    inserted: list[int] = []
    all_: list[str] = []
    desk.handlers = [
        handler(lambda e: inserted.append(e.pk["id"]), "insert"),
        handler(lambda e: all_.append(e.type)),
    ]
    desk.take(order(1), order(2, "update"), make_event("other", row={"id": 9}), order(3), order(4, "delete"))
    wait_until(lambda: len(all_) == 4 and len(inserted) == 2)
    assert (inserted, all_) == ([1, 3], ["insert", "update", "insert", "delete"])


def test_columns_count_for_updates_alone(desk: Desk) -> None:
    seen: list[str] = []
    desk.handlers = [handler(lambda e: seen.append(f"{e.type} {e.changed}"), columns=frozenset({"status"}))]
    desk.take(order(1, "update", old={"total": 1}), order(1, "update", old={"status": 1, "total": 1}), order(2))
    wait_until(lambda: len(seen) == 2)
    assert seen == ["update ('status', 'total')", "insert ()"]


def test_a_mistyped_column_is_told_once(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.handlers = [handler(print, "update", columns=frozenset({"stauts", "id"}))]
    desk.take(*(order(n, "update", old={"total": 1}) for n in (1, 2)), order(3, "update", old={"id": 4}))
    wait_until(lambda: desk.tally() == {"handled": 1})
    assert [record.message for record in caplog.records] == [
        "handler builtins.print: no such column in public.orders: stauts"
    ]


def test_when_decides_and_its_failure_is_the_handlers(desk: Desk) -> None:
    seen: list[int] = []
    desk.handlers = [handler(lambda e: seen.append(e.pk["id"]), when=lambda e: 10 / (e.pk["id"] - 2) > 0)]
    desk.take(order(1), order(2), order(3))
    wait_until(lambda: seen)
    assert seen == [3]
    wait_until(lambda: desk.tally() == {"failed": 1, "handled": 1})


def test_each_call_has_an_app_context_of_its_own(desk: Desk, app: Flask) -> None:
    seen: list[Any] = []
    torn: list[object] = []
    app.teardown_appcontext(torn.append)

    def hear(event: ChangeEvent) -> None:
        seen.append((current_app.name, hasattr(g, "mark")))
        g.mark = True

    desk.handlers = [handler(hear)]
    desk.take(order(1), order(2))
    wait_until(lambda: len(torn) == 2)
    assert seen == [("shop", False), ("shop", False)]
    assert not has_app_context()


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_handler_raises_the_next_event_has_its_chance(
    error: BaseException, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    others: list[int] = []

    def hear(event: ChangeEvent) -> None:
        if event.pk["id"] == 1:
            raise error
        seen.append(event.pk["id"])

    desk.handlers = [handler(hear), handler(lambda e: others.append(e.pk["id"]))]
    event = order(1)
    desk.take(event, order(2))
    wait_until(lambda: seen == [2] and others == [1, 2])
    assert desk.tally() == {"failed": 1, "handled": 1}
    assert type(error).__name__ in (desk.dispatcher.tallies()[0].last_error or "")
    [record] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert f"failed on event {event.id}" in record.getMessage()
    assert record.exc_info


def test_a_handler_that_hangs_holds_up_nobody(desk: Desk) -> None:
    hang, others = threading.Event(), list[int]()
    desk.handlers = [handler(lambda e: hang.wait(SECONDS)), handler(lambda e: others.append(e.pk["id"]))]
    desk.take(*(order(n) for n in range(100)))
    wait_until(lambda: len(others) == 100)
    assert "handled" not in desk.tally(0)
    hang.set()


def test_each_handler_has_a_row_of_its_own(desk: Desk) -> None:
    seen: list[Any] = []

    def spoil(event: ChangeEvent) -> None:
        assert event.row is not None
        event.row["id"] = "spoilt"
        seen.append(None)

    desk.handlers = [handler(spoil), handler(lambda e: seen.append(e.row))]
    event = order(1)
    desk.take(event)
    wait_until(lambda: len(seen) == 2)
    assert {"id": 1} in seen
    assert event.row == {"id": 1}


def test_too_far_behind_means_missed_and_it_is_said(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    desk, hang, begun = Desk(app, most=2), threading.Event(), threading.Event()
    missed: list[str] = []
    seen: list[int] = []

    def slow(event: ChangeEvent) -> None:
        begun.set()
        hang.wait(SECONDS)
        seen.append(event.pk["id"])

    def note(sender: Flask, event: ChangeEvent, handler: str) -> None:
        missed.append(event.id)

    desk.handlers = [handler(slow)]
    events = [order(n) for n in range(6)]
    with signals.handler_overflowed.connected_to(note, app):
        desk.take(events[0])
        assert begun.wait(SECONDS)
        desk.take(*events[1:])
    assert missed == [e.id for e in events[3:]]
    hang.set()
    wait_until(lambda: len(seen) == 3)
    assert seen == [0, 1, 2]
    assert desk.tally() == {"missed": 3, "handled": 3}
    assert len([r for r in caplog.records if "events behind" in r.getMessage()]) == 1
    desk.take(order(9))
    wait_until(lambda: seen[-1] == 9)
    desk.dispatcher.stop(SECONDS)


def test_failures_are_signalled_with_the_app_as_sender(desk: Desk, app: Flask) -> None:
    told: list[tuple[Any, ...]] = []

    def note(sender: Flask, event: ChangeEvent, handler: str, error: BaseException) -> None:
        told.append((sender, event.pk, handler.rsplit(".", 1)[-1], str(error)))
        raise RuntimeError("a receiver that fails")

    def bad(event: ChangeEvent) -> None:
        raise ValueError(f"no {event.pk['id']}")

    desk.handlers = [handler(bad)]
    with signals.handler_failed.connected_to(note, app):
        desk.take(order(1), order(2))
        wait_until(lambda: len(told) == 2)
    assert told == [(app, {"id": 1}, "bad", "no 1"), (app, {"id": 2}, "bad", "no 2")]


def test_an_overflow_receiver_that_fails_does_not_stop_the_listener(app: Flask) -> None:
    desk, hang, begun = Desk(app, most=1), threading.Event(), threading.Event()

    def fail(sender: Flask, **_: Any) -> None:
        raise RuntimeError("a receiver that fails")

    def slow(event: ChangeEvent) -> None:
        begun.set()
        hang.wait(SECONDS)

    desk.handlers = [handler(slow)]
    with signals.handler_overflowed.connected_to(fail, app):
        desk.take(order(0))
        assert begun.wait(SECONDS)
        desk.take(order(1), order(2), order(3))
    hang.set()
    desk.dispatcher.stop(SECONDS)


def test_a_handler_that_comes_later_hears_from_then_on(desk: Desk) -> None:
    first, second = list[int](), list[int]()
    desk.handlers = [handler(lambda e: first.append(e.pk["id"]))]
    desk.take(order(1))
    desk.handlers = [*desk.handlers, handler(lambda e: second.append(e.pk["id"]))]
    desk.take(order(2))
    wait_until(lambda: (first, second) == ([1, 2], [2]))


def test_stop_ends_after_the_event_at_hand_and_leaves_a_hanging_one_behind(app: Flask) -> None:
    desk, hang, begun = Desk(app), threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(event: ChangeEvent) -> None:
        begun.set()
        hang.wait(SECONDS)
        seen.append(event.pk["id"])

    desk.handlers = [handler(slow)]
    desk.take(order(1), order(2))
    assert begun.wait(SECONDS)
    desk.dispatcher.stop(0.05)
    assert seen == []
    hang.set()
    desk.dispatcher.stop(SECONDS)
    assert seen == [1]


def test_a_handler_is_named_by_its_function() -> None:
    class Callable_:
        def __call__(self, event: ChangeEvent) -> None: ...

    def hear(event: ChangeEvent) -> None: ...

    assert handler(hear).name == f"{__name__}.{hear.__qualname__}"
    assert "Callable_ object" in handler(Callable_()).name
