"""What a client asks for: query parameters and message fields, parsed once into frozen values; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pgevents_push.errors import BadParameter
from pgevents_push.event import CHANGE_TYPES, ChangeType

Format = Literal["json", "message"]
FORMATS: tuple[Format, ...] = ("json", "message")

CURSOR_NAMES = ("lastEventId", "last_event_id", "lastEventID", "Last-Event-ID")
_KNOWN = ("table", "events", "columns", "format", *CURSOR_NAMES)
_LATER = ("filter", "snapshot", "and", "or", "ticket")


@dataclass(frozen=True)
class TableRequest:
    """One table as a client names it, with the changes and columns that it wants (None: all that it may see)."""

    table: str
    types: frozenset[ChangeType]
    columns: frozenset[str] | None


@dataclass(frozen=True)
class StreamRequest:
    """A whole stream: its tables, its format, and where the client was (None: it is new)."""

    tables: tuple[TableRequest, ...]
    format: Format
    cursor: str | None


def parse_stream(query: Mapping[str, Sequence[str]], last_event_id: str | None, most: int) -> StreamRequest:
    """Read the query of `/pgevents/stream`.

    :param query: each parameter with all its values.
    :param last_event_id: the header, which wins over the query.
    :param most: how many tables one stream may have.
    :raises BadParameter: names the parameter.
    """
    _refuse_unknown(query)
    names = list(dict.fromkeys(split_list(query.get("table", ()))))
    if not names:
        raise BadParameter("table is missing: /pgevents/stream?table=orders")
    if len(names) > most:
        raise BadParameter(f"table: {len(names)} tables in one stream, at most {most} are allowed.")
    types = parse_types(split_list(query["events"])) if "events" in query else frozenset(CHANGE_TYPES)
    columns = _columns_by_table(names, split_list(query["columns"])) if "columns" in query else {}
    tables = tuple(TableRequest(name, types, columns.get(name)) for name in names)
    return StreamRequest(tables, _format(query), last_event_id or _cursor(query))


def split_list(values: Iterable[str]) -> list[str]:
    """Both `a=x&a=y` and `a=x,y`."""
    return [item for value in values for item in value.split(",") if item]


def parse_types(names: Iterable[object]) -> frozenset[ChangeType]:
    """Read a list of change types.

    :raises BadParameter: none, or an unknown one.
    """
    types = set()
    for name in names:
        if name not in CHANGE_TYPES:
            raise BadParameter(f"events: {_shown(name)} is not one of {', '.join(CHANGE_TYPES)}.")
        types.add(name)
    if not types:
        raise BadParameter(f"events: name at least one of {', '.join(CHANGE_TYPES)}.")
    return frozenset(types)


def parse_columns(names: Iterable[object]) -> frozenset[str]:
    """Read a list of column names.

    :raises BadParameter: none, or one that is no text.
    """
    columns = list(names)
    if not columns or not all(isinstance(name, str) and name for name in columns):
        raise BadParameter("columns: name at least one column.")
    return frozenset(cast(list[str], columns))


def _columns_by_table(tables: list[str], names: list[str]) -> dict[str, frozenset[str]]:
    """`columns=status` counts for every table of the stream, `columns=orders.status` for that one."""
    wanted: dict[str, set[str]] = {table: set() for table in tables}
    for name in parse_columns(names):
        owners = [table for table in tables if name.startswith(f"{table}.")]
        for table in owners or tables:
            wanted[table].add(name[len(table) + 1 :] if owners else name)
    return {table: frozenset(columns) for table, columns in wanted.items() if columns}


def _format(query: Mapping[str, Sequence[str]]) -> Format:
    name = query.get("format", ("json",))[-1]
    if name not in FORMATS:
        raise BadParameter(f"format: {_shown(name)} is not one of {', '.join(FORMATS)}.")
    return name


def _cursor(query: Mapping[str, Sequence[str]]) -> str | None:
    return next((query[name][-1] for name in CURSOR_NAMES if name in query), None) or None


def _refuse_unknown(query: Mapping[str, Sequence[str]]) -> None:
    for name in query:
        if name in _LATER:
            raise BadParameter(f"{name}: this version does not offer it.")
        if name not in _KNOWN and not name.startswith("_"):  # `_=…` is how clients get past caches
            near = difflib.get_close_matches(name, _KNOWN, 1)
            hint = f"Did you mean {near[0]}?" if near else f"The parameters are {', '.join(_KNOWN[:5])}."
            raise BadParameter(f"{_shown(name)} is not a parameter. {hint}")


def _shown(value: object) -> str:
    return repr(value)[:80]
