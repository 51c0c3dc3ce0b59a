"""For the tests of apps: changes without PostgreSQL, and a place where handlers' effects are waited for."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

from flask import Flask

from pgevents_push.capture import resolve
from pgevents_push.event import ChangeEvent, ChangeType
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
    :param pk: the key; defaults to the row's (or old row's) "id" where there is one.
    :param old: for an update the old values of the changed columns; their names become `changed`.
    """
    name, number = resolve(target).name, next(_ids)
    known = row or old or {}
    key = pk if pk is not None else {k: known[k] for k in ("id",) if k in known}
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
    What a handler raises is raised."""
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
    return list(app.extensions["pgevents"].values())


def _json(value: object) -> str:
    return json.dumps(value, default=str, separators=(",", ":"))
