"""What a client asks for: query parameters and message fields, parsed once into frozen values; pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pgevents_push.errors import BadParameter
from pgevents_push.event import CHANGE_TYPES, ChangeType
from pgevents_push.hub.filters import MAX_TERMS

Format = Literal["json", "message", "html", "turbo"]
FORMATS: tuple[Format, ...] = ("json", "message", "html", "turbo")

MOST_COLUMNS = 300  # 2000 of them for each of 32 tables are 5 ms of work

CURSOR_NAMES = ("lastEventId", "last_event_id", "lastEventID", "Last-Event-ID")
_KNOWN = ("table", "events", "columns", "filter", "format", "snapshot", "limit", *CURSOR_NAMES, "ticket")
_OF_SNAPSHOT = ("table", "columns", "filter", "limit", "ticket")
# PostgREST's groups may be parameters of their own: `or=(status.eq.open,total.gt.9)`.
_GROUPS = ("and", "or", "not.and", "not.or")


@dataclass(frozen=True)
class TableRequest:
    """One table as a client names it, with the changes and columns that it wants (None: all that it may see), and the
    filters that a row must pass, all of them."""

    table: str
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class StreamRequest:
    """A whole stream: its tables, its format, where the client was (None: it is new), and whether it wants to see the
    rows first, of each table at most `limit` (None: all)."""

    tables: tuple[TableRequest, ...]
    format: Format
    cursor: str | None
    snapshot: bool = False
    limit: int | None = None


def parse_stream(query: Mapping[str, Sequence[str]], last_event_id: str | None, most: int) -> StreamRequest:
    """Read the query of `/pgevents/stream`.

    :param query: each parameter with all its values.
    :param last_event_id: the header, which wins over the query.
    :param most: how many tables one stream may have.
    :raises BadParameter: names the parameter.
    """
    names = list(dict.fromkeys(split_list(query.get("table", ()))))
    _refuse_unknown(query, frozenset(names))
    if not names:
        raise BadParameter("table is missing: /pgevents/stream?table=orders")
    if len(names) > most:
        raise BadParameter(f"table: {len(names)} tables in one stream, at most {most} are allowed.")
    types = parse_types(split_list(query["events"])) if "events" in query else frozenset(CHANGE_TYPES)
    columns = _columns_by_table(names, split_list(query["columns"])) if "columns" in query else {}
    snapshot, limit = _snapshot(query), _limit(query)
    if limit is not None and not snapshot:
        raise BadParameter("limit: it is for the rows of a snapshot: snapshot=1&limit=100")
    filters = _filters_by_table(names, query)
    tables = tuple(TableRequest(name, types, columns.get(name), filters[name]) for name in names)
    return StreamRequest(tables, _format(query), last_event_id or _cursor(query), snapshot, limit)


def parse_snapshot(query: Mapping[str, Sequence[str]]) -> tuple[TableRequest, int | None]:
    """Read the query of `/pgevents/snapshot`: a table, and how many of its rows at most.

    :raises BadParameter: names the parameter.
    """
    names = list(dict.fromkeys(split_list(query.get("table", ()))))
    _refuse_unknown(query, frozenset(names), _OF_SNAPSHOT)
    if len(names) != 1:
        raise BadParameter("table: name one, /pgevents/snapshot?table=orders")
    columns = _columns_by_table(names, split_list(query["columns"])) if "columns" in query else {}
    [name], filters = names, _filters_by_table(names, query)
    return TableRequest(name, frozenset(CHANGE_TYPES), columns.get(name), filters[name]), _limit(query)


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

    :raises BadParameter: none, too many, or one that is no text.
    """
    columns = list(names)
    if len(columns) > MOST_COLUMNS:
        raise BadParameter(f"columns: {len(columns)} names, at most {MOST_COLUMNS} are allowed.")
    if not columns or not all(isinstance(name, str) and name for name in columns):
        raise BadParameter("columns: name at least one column.")
    return frozenset(cast(list[str], columns))


def _columns_by_table(tables: list[str], names: list[str]) -> dict[str, frozenset[str]]:
    """`columns=status` counts for every table of the stream, `columns=orders.status` for that one."""
    wanted: dict[str, set[str]] = {table: set() for table in tables}
    owners_of = _owners_among(tables)
    for name in parse_columns(names):
        owners = owners_of(name)
        for table in owners or tables:
            wanted[table].add(name[len(table) + 1 :] if owners else name)
    return {table: frozenset(columns) for table, columns in wanted.items() if columns}


def _filters_by_table(tables: list[str], query: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """`filter=status=eq.open` counts for every table of the stream, `filter=orders.status=eq.open` for that one; and
    so do the groups, `or=(…)` and `orders.or=(…)`."""
    texts = list(query.get("filter", ()))
    known = frozenset(tables)
    texts += [f"{name}={value}" for name in query if _is_group(name, known) for value in query[name]]
    if len(texts) > MAX_TERMS * len(tables):
        raise BadParameter(f"filter: {len(texts)} filters, at most {MAX_TERMS} for each table are allowed.")
    wanted: dict[str, list[str]] = {table: [] for table in tables}
    owners_of = _owners_among(tables)
    for text in texts:
        owners = owners_of(text)
        for table in owners or tables:
            wanted[table].append(text[len(table) + 1 :] if owners else text)
    return {table: tuple(filters) for table, filters in wanted.items()}


def _owners_among(tables: list[str]) -> Callable[[str], list[str]]:
    """Return what tells the tables that a name begins with; more than one where one is called `a`, another `a.b`."""
    known, longest = frozenset(tables), max(map(len, tables))
    return lambda name: [name[:at] for at in _dots(name, longest) if name[:at] in known]


def _dots(name: str, last: int) -> Iterator[int]:
    at = name.find(".", 0, last + 1)
    while at >= 0:
        yield at
        at = name.find(".", at + 1, last + 1)


def _is_group(name: str, tables: Collection[str]) -> bool:
    own = (name[: -len(group) - 1] for group in _GROUPS if name.endswith(f".{group}"))
    return name in _GROUPS or any(table in tables for table in own)


def _format(query: Mapping[str, Sequence[str]]) -> Format:
    name = query.get("format", ("json",))[-1]
    if name not in FORMATS:
        raise BadParameter(f"format: {_shown(name)} is not one of {', '.join(FORMATS)}.")
    return name


def _cursor(query: Mapping[str, Sequence[str]]) -> str | None:
    return next((query[name][-1] for name in CURSOR_NAMES if name in query), None) or None


def _snapshot(query: Mapping[str, Sequence[str]]) -> bool:
    value = query.get("snapshot", ("0",))[-1]
    if value not in ("0", "1"):
        raise BadParameter(f"snapshot: {_shown(value)} is not 1 or 0.")
    return value == "1"


def _limit(query: Mapping[str, Sequence[str]]) -> int | None:
    return parse_limit(query["limit"][-1]) if "limit" in query else None


def parse_limit(value: object) -> int:
    """Read a number of rows, of a query or a message.

    :raises BadParameter: it is not one, or too large.
    """
    if isinstance(value, bool) or not re.fullmatch("[0-9]{1,9}", str(value)) or int(str(value)) < 1:
        raise BadParameter(f"limit: {_shown(value)} is not a whole number of at least 1.")
    return int(str(value))


def _refuse_unknown(query: Mapping[str, Sequence[str]], tables: Collection[str], known: Sequence[str] = _KNOWN) -> None:
    for name in query:
        # `_=…` is how clients get past caches
        if name not in known and not name.startswith("_") and not _is_group(name, tables):
            near = difflib.get_close_matches(name[:30], known, 1)  # of 8 kB it takes half a millisecond
            hint = f"Did you mean {near[0]}?" if near else f"The parameters are {', '.join(known[:8])}."
            raise BadParameter(f"{_shown(name)} is not a parameter. {hint}")


def _shown(value: object) -> str:
    return repr(value)[:80]
