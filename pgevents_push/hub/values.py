"""Values as Python compares them in the way that PostgreSQL does: which type is read how; pure.

Each kind reads two spellings of a value: the text that stands in a filter, and the JSON of a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

from pgevents_push.errors import UnsupportedCondition
from pgevents_push.hub import moments, numbers
from pgevents_push.hub.columns import Column

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRUE, _FALSE = ("true", "t", "yes", "y", "on", "1"), ("false", "f", "no", "n", "off", "0")


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a type are read.

    :param accepts: the Python types that stand for such a value; text does for every type, as in SQL.
    :param literal: reads a text; ValueError says what is wrong with it.
    :param of_json: reads the JSON of a row; None for null, and for what is no value of this type.
    :param ranks: where a value stands in the order, when values do not tell that themselves.
    """

    accepts: tuple[type, ...]
    literal: Callable[[str], Hashable]
    of_json: Callable[[Any], Any]
    ranks: Mapping[Any, int] | None = None

    @property
    def ordered(self) -> Callable[[Any], Any]:
        """Like `of_json`, for `<`; an enum label that was added since is None."""
        ranks, of_json = self.ranks, self.of_json
        return of_json if ranks is None else lambda value: ranks.get(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that a column is compared with. `text` is its spelling for PostgreSQL: of equal ones any will do."""

    value: Hashable
    text: str = field(compare=False)


def literal(column: Column, value: Any) -> Literal:
    """Read a value that is to be compared with a column.

    :raises UnsupportedCondition: it is no value of the column's type.
    """
    kind, value = kind_of(column), value.value if isinstance(value, Enum) else value
    if not isinstance(value, (str, *kind.accepts)) or (isinstance(value, bool) and bool not in kind.accepts):
        raise UnsupportedCondition(f"{column} cannot be compared with {_shown(value)}.")
    text = _spelled(value)
    try:
        return Literal(kind.literal(text), text)
    except ValueError as error:
        raise UnsupportedCondition(f"{text[:80]!r} is no value of {column}: {error}") from None


def kind_of(column: Column) -> Kind:
    """Return how to read a column's values.

    :raises UnsupportedCondition: they cannot be compared here.
    """
    found = _enum(column.labels) if column.labels else KINDS.get(column.type)
    if found is None:
        raise UnsupportedCondition(f"{column} can only be asked whether it is null.")
    return found


def _shown(value: Any) -> str:
    return f"{str(value)[:80]!r} ({type(value).__name__})"


def _spelled(value: Any) -> str:
    """Write a Python value as PostgreSQL reads it. Of subclasses only what they are, not how they print themselves."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, str):
        return str.__str__(value)
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def _text(text: str) -> str:
    if _NO_TEXT.search(text):
        raise ValueError("PostgreSQL cannot hold this text.")
    return text


def _padded(text: str) -> str:
    return _text(text).rstrip(" ")


def _boolean(text: str) -> bool:
    found = text.strip(" ").lower()
    if found not in _TRUE + _FALSE:
        raise ValueError("write true or false.")
    return found in _TRUE


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text.lower()):
        raise ValueError("write 32 hexadecimal digits, with or without the four hyphens.")
    return str(UUID(text))


@lru_cache(maxsize=256)
def _enum(labels: tuple[str, ...]) -> Kind:
    ranks = {label: rank for rank, label in enumerate(labels)}

    def literal(text: str) -> str:
        if text not in ranks:
            raise ValueError(f"there is {', '.join(labels)[:200]}.")
        return text

    return Kind((), literal, _json_text, ranks)


def _json_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _json_padded(value: Any) -> str | None:
    return value.rstrip(" ") if isinstance(value, str) else None


def _json_boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(bits: int) -> Kind:
    return Kind((int,), lambda text: numbers.integer(text, bits), numbers.json_integer)


_TEXT = Kind((), _text, _json_text)
KINDS: dict[str, Kind] = {
    "smallint": _integer(16),
    "integer": _integer(32),
    "bigint": _integer(64),
    "numeric": Kind((int, float, Decimal), numbers.numeric, numbers.json_numeric),
    "double precision": Kind((int, float, Decimal), numbers.double, numbers.json_double),
    "real": Kind((int, float, Decimal), numbers.real, numbers.json_real),
    "text": _TEXT,
    "character varying": _TEXT,
    "character": Kind((), _padded, _json_padded),
    "boolean": Kind((bool,), _boolean, _json_boolean),
    "uuid": Kind((UUID,), _uuid, _json_text),
    # A datetime is a date too; the readers of dates refuse its text.
    "date": Kind((date,), moments.day, moments.json_of(moments.day)),
    "timestamp without time zone": Kind((date, datetime), moments.local, moments.json_of(moments.local)),
    "timestamp with time zone": Kind((date, datetime), moments.instant, moments.json_of(moments.instant)),
    "time without time zone": Kind((time,), moments.clock, moments.json_of(moments.clock)),
    "time with time zone": Kind((time,), moments.clock_with_zone, moments.json_of(moments.clock_with_zone)),
}
