"""What PostgreSQL says of a table's columns: enough to compare their values as it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pgevents_push.event import TableName
from pgevents_push.sql import statement

_COLUMNS = statement("pgevents_push.hub", "columns.sql")

Execute = Callable[..., list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Collation:
    """How a column's texts compare.

    `deterministic`: equal means the same characters. `by_code_point`: the order is that of Python. `folding`: what
    ILIKE, for which lower() is asked, makes of a text: () when only A to Z change, else what becomes of the
    Kelvin sign and of the dotted I, the only others that turn into ASCII; None when that is not known.
    """

    name: str
    deterministic: bool = True
    by_code_point: bool = False
    folding: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `type` is what format_type() says without modifiers, of a domain its base type; types
    outside pg_catalog have their schema: "integer", "timestamp with time zone", "public.orders_status".
    `labels` are those of an enum, in order. `shows_null`: in a row's JSON it is null exactly where SQL says IS NULL.
    `in_key`: the primary key has it."""

    name: str
    type: str
    labels: tuple[str, ...] = ()
    shows_null: bool = True
    collation: Collation | None = None
    table: TableName | None = None
    in_key: bool = False

    def __str__(self) -> str:
        return f"{self.name[:80]!r} ({self.type})"


Columns = Mapping[str, Column]


def read_columns(execute: Execute, table: TableName) -> dict[str, Column]:
    """Ask the database for the columns of a table, in their order; {} when there is no such table.

    :param execute: runs one statement with its parameters and returns the rows.
    """
    rows = execute(_COLUMNS, {"schema": table.schema, "name": table.name})
    return {row[0]: Column(row[0], row[1], tuple(row[2]), row[3], _collation(*row[5:]), table, row[4]) for row in rows}


def _collation(
    name: str | None, deterministic: bool, by_code_point: bool, folding: list[str] | None
) -> Collation | None:
    if name is None:
        return None
    return Collation(name, deterministic, by_code_point, None if folding is None else tuple(folding))
