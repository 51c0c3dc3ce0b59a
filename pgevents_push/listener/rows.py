"""Rows: what a table holds, each row as the JSON text that its events have, a bounded answer at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgevents_push.errors import RowsError
from pgevents_push.event import TableName
from pgevents_push.listener.statements import statement

Execute = Callable[..., list[tuple[Any, ...]]]

# An answer is at most FETCH rows of SHORT_BYTES, 4 MB; a longer row is asked for by itself. Fewer rows an answer cost
# time (0.15 ms each), more save none.
FETCH = 250
SHORT_BYTES = 16_000

_TABLE, _COLUMNS, _AS_CAPTURED, _ROWS, _LONG_ROW, _IS_IN_THE_WAY = (
    statement(f"{name}.sql") for name in ("table", "columns", "as_captured", "rows", "long_row", "is_in_the_way")
)


# As long_row.sql has it.
_WITHOUT_ROW = """'{{"pk":' || (SELECT row_to_json(k.*)::text FROM {key} AS k) || ',"row":null,"truncated":true}}'"""


@dataclass(frozen=True)
class RowsWanted:
    """Which rows of a table somebody wants, and what of them.

    :param columns: those of `row`; None for all.
    :param exposed: those that may leave the process at all, which bounds `pk`; None for all.
    :param condition: SQL over the table's columns, with its parameters; None for all rows.
    :param limit: only the first ones, by key.
    :param by_place: a long row is fetched by where it lies, for which a role needs SELECT on the whole table. Else it
        comes with the others, of which an answer then has few: 40 us a row more.
    """

    columns: frozenset[str] | None
    exposed: frozenset[str] | None
    condition: tuple[str, Mapping[str, Any]] | None = None
    limit: int | None = None
    by_place: bool = True


@dataclass(frozen=True)
class Place:
    """A table as this database has it; `name` is written as in SQL."""

    oid: int
    name: str


@dataclass(frozen=True)
class _Column:
    """See columns.sql; `quoted` is written for a statement with parameters."""

    name: str
    quoted: str
    virtual: bool
    may_be_long: bool
    place: int | None


def find_table(execute: Execute, table: TableName, *, whole: bool = True) -> Place:
    """Look a table up.

    :param whole: our own role must see all of its rows; not so where another's is asked.
    :raises RowsError: there is none, or our role may not read it; the message names the cure.
    """
    found = execute(_TABLE, {"schema": table.schema, "table": table.name})
    if not found:
        raise RowsError(f"{table} does not exist, so there are no rows to show.")
    [(oid, kind, schema, name, role, readable, hidden)] = found
    if kind not in ("r", "p"):
        raise RowsError(f"{table} is no table.")
    if not readable:
        raise RowsError(
            f"The role {role} may not read {table}: nobody gets a snapshot of it.",
            f"As its owner: GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.{name} TO {role}",
        )
    if hidden and whole:
        raise RowsError(
            f"Row security hides rows of {table} from the role {role}, but events tell of all: nobody gets a snapshot.",
            f"As a superuser: ALTER ROLE {role} BYPASSRLS; or connect as the owner of the table.",
        )
    # What inherits from a table is not captured with it, a partition is.
    return Place(oid, f"{'ONLY ' if kind == 'r' else ''}{schema}.{name}")


def see_as_captured(execute: Execute) -> None:
    """Let the rest of the transaction spell values as the trigger does."""
    execute(_AS_CAPTURED)


def is_in_the_way(execute: Execute) -> bool:
    """Whether somebody waits until this transaction ends."""
    [(waited_for,)] = execute(_IS_IN_THE_WAY)
    return bool(waited_for)


def read_rows(execute: Execute, place: Place, wanted: RowsWanted, most_bytes: int) -> Iterator[str]:
    """Yield the rows, by key: each an object with `pk` and `row`.

    :param execute: runs statements in one transaction, after `see_as_captured`.
    :param most_bytes: of a row longer than this only the key, and `truncated`.
    :raises RowsError: the table is gone.
    """
    columns = [_column(*row) for row in execute(_COLUMNS, {"oid": place.oid})]
    if not columns:
        raise RowsError(f"{place.name} has no columns, or is gone.")
    parts = _parts(place, wanted, columns)
    condition, parameters = wanted.condition or ("true", {})
    few = SHORT_BYTES if wanted.by_place else most_bytes
    execute(_filled(_ROWS, {**parts, "condition": condition}), {**parameters, "few": few})
    long_row = _filled(_LONG_ROW, parts)
    while rows := execute(f"FETCH {max(1, FETCH * SHORT_BYTES // max(few, SHORT_BYTES))} FROM pgevents_rows"):
        for item, instead, tableoid in rows:
            if item is not None:
                yield item
            elif tableoid is None:
                yield instead
            else:
                [(item,)] = execute(long_row, {"ctid": instead, "tableoid": tableoid, "most": most_bytes})
                yield item
    execute("CLOSE pgevents_rows")


def _column(name: str, quoted: str, virtual: bool, may_be_long: bool, place: int | None) -> _Column:
    return _Column(name, quoted.replace("%", "%%"), virtual, may_be_long, place)


def _parts(place: Place, wanted: RowsWanted, columns: Sequence[_Column]) -> dict[str, str]:
    """What to fill into the statements."""
    keys = sorted((c.place, c) for c in columns if c.place is not None)
    key = [c for _, c in keys if wanted.exposed is None or c.name in wanted.exposed]
    shown = [c for c in columns if wanted.columns is None or c.name in wanted.columns]
    long = [f"coalesce(pg_column_size(t.{c.quoted}), 0)" for c in shown if c.may_be_long and not c.virtual]
    order = ", ".join(f"t.{c.quoted}" for _, c in keys)
    key_row = f"(SELECT {', '.join(f't.{c.quoted}' for c in key)})"
    return {
        "table": place.name.replace("%", "%%"),
        "key": key_row,
        "instead": "t.ctid::text" if wanted.by_place else _WITHOUT_ROW.format(key=key_row),
        "tableoid": "t.tableoid::bigint" if wanted.by_place else "NULL::bigint",
        "row": f"(SELECT {', '.join(map(_value, shown))})",
        "stored": " + ".join(["0::bigint", *long]),
        "order": f"ORDER BY {order}" if order else "",
        "limit": "" if wanted.limit is None else f"LIMIT {wanted.limit:d}",
    }


def _value(column: _Column) -> str:
    return f"NULL AS {column.quoted}" if column.virtual else f"t.{column.quoted}"


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """Put parts into their places, in one pass: a table may be called "{order}"."""
    return re.sub(r"\{([a-z]+)\}", lambda match: parts[match[1]], text)
