"""SQLAlchemy's own registrar: `sqlalchemy.event.listens_for(PGEvents.target(Order), "after_insert")`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from pgevents_push.event import ChangeEvent, ChangeType


class ChangeTarget(sa.event.registry.EventTarget):
    """The target of a table's events for `sqlalchemy.event.listen`, `contains` and `remove`."""

    dispatch: Any

    def __init__(self, declared: object) -> None:
        self.declared = declared

    def functions(self, type_: ChangeType) -> Iterator[Callable[[ChangeEvent], object]]:
        """The functions that are registered at this moment."""
        yield from tuple(getattr(self.dispatch, f"after_{type_}"))


class ChangeEvents(sa.event.Events[ChangeTarget]):
    """The events that a `ChangeTarget` knows. Each function gets the ChangeEvent."""

    _target_class_doc = "PGEvents.target(Order)"
    _dispatch_target = ChangeTarget

    def after_insert(self, event: ChangeEvent) -> None:
        """A row was inserted, by any program, and committed."""

    def after_update(self, event: ChangeEvent) -> None:
        """A row was really changed, and that is committed."""

    def after_delete(self, event: ChangeEvent) -> None:
        """A row was deleted, and that is committed."""

    def after_truncate(self, event: ChangeEvent) -> None:
        """The table was truncated, and that is committed."""
