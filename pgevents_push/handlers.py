"""Handlers: functions of the app that run on a change, each in a queue and a greenlet (or thread) of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app

from pgevents_push import signals, waiting
from pgevents_push.capture import Target
from pgevents_push.event import ChangeEvent, ChangeType

log = logging.getLogger(__name__)

Function = Callable[[ChangeEvent], object]
When = Callable[[ChangeEvent], object]


@dataclass(frozen=True)
class Handler:
    """One function and what it wants.

    :param columns: for updates: only when one of these really changed.
    :param when: only when this says so of the event.
    """

    function: Function
    target: Target
    types: frozenset[ChangeType]
    columns: frozenset[str] | None = None
    when: When | None = None

    @property
    def key(self) -> int:
        """What its queue is known by: the function, so that one which is registered for several types, by stacked
        decorators for example, gets their events in order. By identity: a callable object may have no hash."""
        return id(self.function)

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', repr(self.function))}"

    def concerns(self, event: ChangeEvent) -> bool:
        """Whether table and type match: cheap, looks at nothing of the row."""
        return event.type in self.types and event.table_name == self.target.name

    def wants(self, event: ChangeEvent) -> bool:
        """Whether the changed columns and `when` match too."""
        if self.columns is not None and event.type == "update" and self.columns.isdisjoint(event.changed):
            return False
        return self.when is None or bool(self.when(event))


@dataclass
class Tally:
    """How one handler is doing, for people."""

    handler: str
    counts: Counter[str] = field(default_factory=Counter)
    last_error: str | None = None


class Runner:
    """Runs one function, event after event, so that it keeps their order and holds up nobody else. It may be the
    function of several handlers."""

    def __init__(self, app: Flask, handler: Handler, most: int) -> None:
        self.tally = Tally(handler.name)
        self._app = app
        self._name = handler.name
        # Kept: while it lives, no other function can have its identity.
        self._function = handler.function
        self._most = most
        self._queue: deque[tuple[Handler, ChangeEvent]] = deque()
        self._changed = threading.Condition()
        self._stopping = self._told_absent = False
        self._pid = os.getpid()
        self._task = waiting.spawn(self._run, name=f"pgevents-handler {handler.name}")

    def put(self, handler: Handler, event: ChangeEvent) -> None:
        """Queue an event. A handler that is too far behind misses it, which is logged, counted and signalled."""
        with self._changed:
            full = len(self._queue) >= self._most
            if not full:
                self._queue.append((handler, event))
                self._changed.notify()
        if full:
            self._overflow(event)

    def _overflow(self, event: ChangeEvent) -> None:
        self.tally.counts["missed"] += 1
        if self.tally.counts["missed"] == 1:
            log.error("handler %s is %d events behind and misses event %s", self._name, self._most, event.id)
        signals.tell(signals.handler_overflowed, self._app, event=event, handler=self._name)

    def stop(self) -> None:
        """End after the event that is being handled."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self, timeout: float) -> None:
        self._task.join(timeout)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            handler, event = work
            try:
                self._call(handler, event)
            except BaseException as error:  # also SystemExit and gevent.Timeout: the next event has its own chance
                self._failed(event, error)

    def _next(self) -> tuple[Handler, ChangeEvent] | None:
        with self._changed:
            while not self._queue and not self._stopping:
                self._changed.wait()
            # A process that is forked under gevent runs copies of all greenlets: these events are the parent's.
            ended = self._stopping or self._pid != os.getpid()
            return None if ended else self._queue.popleft()

    def _call(self, handler: Handler, event: ChangeEvent) -> None:
        # A copy of its own: what a handler does to event.row stays with that handler.
        own = event.replace(loader=_loader(handler.target))
        self._tell_absent(handler, own)
        with self._app.app_context():  # leaving it removes Flask-SQLAlchemy's session
            if handler.wants(own):
                handler.function(own)
                self.tally.counts["handled"] += 1

    def _tell_absent(self, handler: Handler, event: ChangeEvent) -> None:
        """For the developer who mistyped a column of a table given by name: else his handler is silently never called.
        Once: a column may also have been dropped."""
        if handler.columns is None or handler.target.columns is not None or not event.row or self._told_absent:
            return
        if absent := handler.columns - event.row.keys():
            self._told_absent = True
            log.warning("handler %s: no such column in %s: %s", self._name, event.table_name, ", ".join(sorted(absent)))

    def _failed(self, event: ChangeEvent, error: BaseException) -> None:
        self.tally.counts["failed"] += 1
        self.tally.last_error = f"{type(error).__name__}: {error}"
        log.error("handler %s failed on event %s", self._name, event.id, exc_info=error)
        signals.tell(signals.handler_failed, self._app, event=event, handler=self._name, error=error)


class Dispatcher:
    """The runners of one process and app; a function's runner starts with its first event."""

    def __init__(self, app: Flask, handlers: Callable[[], Iterable[Handler]], most: int) -> None:
        self._app = app
        self._handlers = handlers
        self._most = most
        self._runners: dict[int, Runner] = {}

    def dispatch(self, events: Iterable[ChangeEvent]) -> None:
        """Queue events for the handlers that they concern. Raises nothing: the listener would read these events
        again, and everybody would get them twice."""
        handlers = tuple(self._handlers())
        self._retire(handlers)
        for event in events:
            for handler in handlers:
                if handler.concerns(event):
                    self._queue(handler, event)

    def _queue(self, handler: Handler, event: ChangeEvent) -> None:
        try:
            if handler.key not in self._runners:
                self._runners[handler.key] = Runner(self._app, handler, self._most)
            self._runners[handler.key].put(handler, event)
        except Exception:  # no thread to be had, for example
            log.exception("handler %s misses event %s", handler.name, event.id)

    def _retire(self, handlers: Iterable[Handler]) -> None:
        """End the runners of handlers that are registered no longer: SQLAlchemy's registrar can remove them."""
        kept = {handler.key for handler in handlers}
        for key in [key for key in self._runners if key not in kept]:
            self._runners.pop(key).stop()

    def tallies(self) -> list[Tally]:
        return [runner.tally for runner in tuple(self._runners.values())]

    def stop(self, timeout: float = 1.0) -> None:
        """End all runners; a handler that hangs is left behind after `timeout` seconds."""
        for runner in self._runners.values():
            runner.stop()
        for runner in self._runners.values():
            runner.join(timeout)


def _loader(target: Target) -> Callable[[ChangeEvent], Any] | None:
    model = target.model
    if model is None:
        return None

    def load(event: ChangeEvent) -> Any:
        mapper: Any = sa.inspect(model)
        key = {column.name: column for column in mapper.primary_key}
        # The key is JSON: PostgreSQL, not Python, turns its texts back into uuids, dates and the like.
        same = [
            column == sa.cast(sa.literal(None if value is None else str(value), sa.Text), column.type)
            for name, value in event.pk.items()
            if (column := key.get(name)) is not None
        ]
        if not same:
            return None
        statement: Any = sa.select(model).where(*same).execution_options(populate_existing=True)
        return _session_of(model).execute(statement).unique().scalar_one_or_none()

    return load


def _session_of(model: type) -> Any:
    """Flask-SQLAlchemy's session, or that of the app's extension for models made without it."""
    own = getattr(model, "__fsa__", None)
    return own.session if own is not None else current_app.extensions["sqlalchemy"].session
