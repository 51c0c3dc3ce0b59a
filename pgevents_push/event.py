"""ChangeEvent: one committed change of one row. The only thing that travels between the rooms.

The row stays the JSON text that PostgreSQL made; it is decoded only where somebody looks into it.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast, get_args

from pgevents_push.errors import TargetError

# The extra `fast`; without it the standard library does the same.
_orjson = importlib.import_module("orjson") if importlib.util.find_spec("orjson") else json
fast_loads: Callable[[str], Any] = _orjson.loads

ChangeType = Literal["insert", "update", "delete", "truncate"]
CHANGE_TYPES: tuple[ChangeType, ...] = get_args(ChangeType)
# What the log holds: changes, and the word that some may be missing before it: see capture/sql/begin.sql.
EventType = Literal["insert", "update", "delete", "truncate", "gap"]

# PostgreSQL's UTF-8 holds neither; asked for such a name it would end the connection.
_NO_NAME = re.compile("[\0\ud800-\udfff]")
_NAME_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
# orjson reads integers of 2**64 and more as floats and refuses lone surrogates: leave those to the exact path.
_NEEDS_EXACT = re.compile(r"[0-9][0-9.]{15}|\\u[dD]|[0-9][eE]")

# Two names of 63 bytes, each of them a quote that is written twice. Reading 8 kB of dots takes 1.4 ms.
_LONGEST_NAME = 2 * (2 * 63 + 2) + 1


class TableName(NamedTuple):
    """A table as PostgreSQL knows it: exact names, no folding of case."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str, default_schema: str = "public") -> TableName:
        """Read `table`, `schema.table` or, when a name contains a dot, `"my.schema"."my.table"`.

        :raises TargetError: the text is not a table name.
        """
        if len(text) > _LONGEST_NAME:
            raise TargetError(f"{text[:80]!r}… is too long for a table name.")
        parts = [quoted.replace('""', '"') or plain for quoted, plain in _NAME_PART.findall(text)]
        spelled = [match.group(0) for match in _NAME_PART.finditer(text)]
        if ".".join(spelled) != text or not 1 <= len(parts) <= 2 or _NO_NAME.search(text):
            raise TargetError(f'{text[:200]!r} is not a table name: write "table" or "schema.table".')
        return cls(parts[0], parts[1]) if len(parts) == 2 else cls(default_schema, parts[0])

    def asked(self, default_schema: str) -> str:
        """Return the shortest text that `parse` reads as this table: how a client asks for it."""
        parts = (self.name,) if self.schema == default_schema else self
        return ".".join('"' + part.replace('"', '""') + '"' if re.search('[".]', part) else part for part in parts)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


# What a table's columns are: each with a text that changes when its name, type or collation does.
Shape = Mapping[str, str]
Shapes = Mapping[TableName, Shape]

# Why continuity cannot be proven. cursor: it is none, was tampered with, or is of the future; epoch: of another or a
# restored database; retention: the log does not reach back so far; schema: the columns are not what they were;
# overflow: a row was too large to be judged, or more was missed than can be read in time; failed: its template raised.
GapReason = Literal["cursor", "epoch", "retention", "schema", "overflow", "failed"]


@dataclass(frozen=True)
class Gap:
    """What a client is told in place of a change that cannot be shown or judged: reload. At the position `cursor`."""

    reason: GapReason
    cursor: str


def exact_number(text: str) -> float | Decimal:
    """A fraction becomes a float only when the float says the same number; otherwise it stays a Decimal."""
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


def _exact_integer(text: str) -> int | Decimal:
    return int(text) if len(text) < 4000 else Decimal(text)  # int() refuses more than 4,300 digits


def decode(text: str) -> Any:
    """Decode JSON text without losing a digit: see the README, "Numbers"."""
    if not _NEEDS_EXACT.search(text):
        return fast_loads(text)
    return json.loads(text, parse_int=_exact_integer, parse_float=exact_number)


class ChangeEvent:
    """One committed change. Immutable; every handler gets an object of its own.

    `id` (str) is unique in its database, for de-duplication. `type` is "insert", "update", "delete" or
    "truncate"; handlers get no others. `last` is True on the last event of its transaction. `cursor` (str) is
    the position right after this event. `truncated` is True when the row was over PGEVENTS_MAX_ROW_BYTES and
    only the key is known. `at` is the clock time of the change; `committed_at` that of the last change of the
    transaction, the nearest to its commit that PostgreSQL tells without track_commit_timestamp.
    """

    __slots__ = (
        "_decoded", "actor_text", "at_text", "changed_json", "committed_at_text", "cursor", "id", "last",
        "loader", "old_json", "old_pk_json", "pk_json", "row_json", "schema", "table", "truncated", "tx", "type",
    )  # fmt: skip

    id: str
    type: EventType
    schema: str
    table: str
    tx: str
    last: bool
    at_text: str
    committed_at_text: str
    cursor: str
    pk_json: str
    old_pk_json: str | None
    row_json: str | None
    old_json: str | None
    changed_json: str
    actor_text: str | None
    truncated: bool
    loader: Callable[[ChangeEvent], Any] | None
    _decoded: dict[str, Any]

    def __init__(
        self,
        *,
        id: str,
        type: EventType,
        schema: str,
        table: str,
        tx: str,
        last: bool,
        at_text: str,
        cursor: str,
        committed_at_text: str | None = None,
        pk_json: str = "{}",
        old_pk_json: str | None = None,
        row_json: str | None = None,
        old_json: str | None = None,
        changed_json: str = "[]",
        actor_text: str | None = None,
        truncated: bool = False,
        loader: Callable[[ChangeEvent], Any] | None = None,
    ) -> None:
        values: tuple[Any, ...] = (
            {}, actor_text, at_text, changed_json, committed_at_text or at_text, cursor, id, last, loader, old_json,
            old_pk_json, pk_json, row_json, schema, table, truncated, tx, type,
        )  # fmt: skip
        for assign, value in zip(_assigns, values, strict=True):
            assign(self, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"ChangeEvent is immutable: {name!r} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"ChangeEvent is immutable: {name!r} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        # For queues and other processes. Without the loader, which needs this process's session.
        kept = {name: getattr(self, name) for name in self.__slots__ if name not in ("_decoded", "loader")}
        return partial(ChangeEvent, **kept), ()

    def __repr__(self) -> str:
        # The key only: rows do not belong into logs.
        return f"<ChangeEvent {self.id} {self.type} {self.schema}.{self.table} {self.pk_json}>"

    def replace(self, **changes: Any) -> ChangeEvent:
        """Return a copy with its own decoded values, some attributes changed."""
        kept = {name: getattr(self, name) for name in self.__slots__ if name != "_decoded"}
        return ChangeEvent(**{**kept, **changes})

    def _json(self, name: str) -> Any:
        if name not in self._decoded:
            text = getattr(self, name)
            self._decoded[name] = None if text is None else decode(text)
        return self._decoded[name]

    @property
    def table_name(self) -> TableName:
        return TableName(self.schema, self.table)

    @property
    def pk(self) -> dict[str, Any]:
        """The primary key by column, after the change; empty for truncate and for tables without a key."""
        return cast("dict[str, Any]", self._json("pk_json"))

    @property
    def old_pk(self) -> dict[str, Any] | None:
        """The key before an update that changed it, else None."""
        return cast("dict[str, Any] | None", self._json("old_pk_json"))

    @property
    def row(self) -> Any:
        """The new row; None for delete and truncate, and when `truncated`."""
        return self._json("row_json")

    @property
    def old(self) -> Any:
        """For update the old values of the changed columns, for delete the old row, else None.
        In a table without a primary key an update carries the whole old row."""
        return self._json("old_json")

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the columns that an update really changed."""
        return tuple(self._json("changed_json"))

    @property
    def actor(self) -> Mapping[str, Any]:
        """What the writer put into the `pgevents.actor` setting; {"raw": text} when that is no JSON object."""
        if "actor" not in self._decoded:
            self._decoded["actor"] = MappingProxyType(_actor(self.actor_text))
        return cast("Mapping[str, Any]", self._decoded["actor"])

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.at_text)

    @property
    def committed_at(self) -> datetime:
        return datetime.fromisoformat(self.committed_at_text)

    def load(self) -> Any:
        """Return the ORM instance as it is in the database now, or None when the row is gone.

        :raises TargetError: the handler's target has no model.
        """
        if self.loader is None:
            raise TargetError(f"{self.schema}.{self.table} has no model: load() works where a model maps the table.")
        return self.loader(self)


# How each attribute gets its value, in the order of __slots__; `object.__setattr__` takes a third longer.
_assigns: tuple[Callable[[ChangeEvent, Any], None], ...] = tuple(
    getattr(ChangeEvent, name).__set__ for name in ChangeEvent.__slots__
)


def _actor(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = decode(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"raw": text}
