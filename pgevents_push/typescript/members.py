"""Members: what a table's rows hold, as JSON shows it; asked of PostgreSQL, not of the models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pgevents_push.event import TableName
from pgevents_push.sql import statement

_MEMBERS = statement("pgevents_push.typescript", "members.sql")


@dataclass(frozen=True)
class Member:
    """A column. `type` is PostgreSQL's, of an array its element's; "row", "json" and "text" stand for composite types
    and for those that are no part of PostgreSQL. `labels` are those of an enum."""

    name: str
    filled: bool
    is_array: bool
    type: str
    labels: tuple[str, ...] = ()
    in_key: bool = False


def read_members(execute: Callable[..., list[tuple[Any, ...]]], table: TableName) -> list[Member]:
    """Ask for the columns of a table, in their order; [] when there is no such table.

    :param execute: runs one statement with its parameters and returns the rows.
    """
    rows = execute(_MEMBERS, {"schema": table.schema, "name": table.name})
    return [Member(name, filled, array, kind, tuple(labels), key) for name, filled, array, kind, labels, key in rows]
