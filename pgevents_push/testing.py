"""For the tests of apps: changes without PostgreSQL, and a place where handlers' effects are waited for."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from datetime import time as dt_time
from decimal import Decimal
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask

from pgevents_push.capture import resolve
from pgevents_push.errors import ConfigurationError, NotRegisteredError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, ChangeType
from pgevents_push.extension import Runtime

T = TypeVar("T")

_ids = itertools.count(1)


def make_event(
    target: object,
    type: ChangeType = "insert",
    *,
    pk: Mapping[str, Any] | None = None,
    row: Mapping[str, Any] | None = None,
    old: Mapping[str, Any] | None = None,
    actor: Mapping[str, Any] | None = None,
) -> ChangeEvent:
    """Return a change as the listener would hand it on.

    :param target: a model class, a Table, or "schema.table".
    :param pk: the key; defaults to what the row (or old row) has of the model's or Table's primary key, and for a
        table given by name to its "id".
    :param old: for an update the old values of the changed columns; their names become `changed`.
    :raises ConfigurationError: no such type, or a column that the model or Table does not have: a misspelt one would
        make a test pass that says nothing.
    """
    known = {**(old or {}), **(row or {})}
    _check(target, type, {**known, **(pk or {})})
    name, number = resolve(target).name, next(_ids)
    key = pk if pk is not None else {k: known[k] for k in _key(target) if k in known}
    return ChangeEvent(
        id=str(number),
        type=type,
        schema=name.schema,
        table=name.name,
        tx=str(number),
        last=True,
        at_text=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        cursor=f"00000000~{number}:{number}:",
        pk_json=_json(key),
        row_json=None if row is None else _json(row),
        old_json=None if old is None else _json(old),
        changed_json=_json(list(old)) if type == "update" and old else "[]",
        actor_text=None if actor is None else _json(actor),
    )


def call_handlers(app: Flask, event: ChangeEvent) -> int:
    """Run the app's handlers for an event, here and now, each in an app context of its own; return how many ran.
    What a handler raises is raised.

    :raises NotRegisteredError: no PGEvents blueprint is registered with the app.
    """
    ran = 0
    for runtime in _runtimes(app):
        for handler in runtime.handlers():
            own = event.replace()
            with app.app_context():
                if handler.concerns(own) and handler.wants(own):
                    handler.function(own)
                    ran += 1
    return ran


def wait_until(answer: Callable[[], T], timeout: float = 5.0) -> T:
    """Ask until the answer is true, and return it: for the effects of handlers against a real database.

    :raises AssertionError: it was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := answer()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {timeout:g} s")
        time.sleep(0.01)
    return value


def _runtimes(app: Flask) -> list[Runtime]:
    runtimes = list(app.extensions.get("pgevents", {}).values())
    if not runtimes:
        raise NotRegisteredError(
            f"No PGEvents is registered with the app {app.name!r}: app.register_blueprint(pgevents_bp)"
        )
    return runtimes


def _check(target: object, type: str, values: Mapping[str, Any]) -> None:
    if type not in CHANGE_TYPES:
        raise ConfigurationError(f"An event's type is one of {', '.join(CHANGE_TYPES)}, not {type!r}.")
    resolved = resolve(target)
    if resolved.columns is not None and (unknown := sorted(set(values).difference(resolved.columns))):
        there = ", ".join(resolved.columns)
        raise ConfigurationError(f"{resolved.name} has no column {', '.join(unknown)}. It has: {there}.")


def _key(target: object) -> list[str]:
    mapped: Any = sa.inspect(target).local_table if isinstance(target, type) else target
    return [column.name for column in mapped.primary_key] if isinstance(mapped, sa.Table) else ["id"]


def _json(value: object) -> str:
    return json.dumps(value, default=_plain, separators=(",", ":"))


def _plain(value: object) -> object:
    """As PostgreSQL writes it: a numeric is a number, a time is ISO 8601, everything else a text."""
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date | dt_time) else str(value)
