"""What may be asked of a column here, by its type and collation; pure. The rest is refused, with the reason."""

from __future__ import annotations

from pgevents_push.errors import UnsupportedCondition
from pgevents_push.hub.columns import Column
from pgevents_push.hub.patterns import Pattern, read_pattern
from pgevents_push.hub.values import kind_of

_INTEGERS = {"smallint", "integer", "bigint"}
_STRINGS = {"text", "character varying"}
_TEXTS = {*_STRINGS, "character"}


def comparable(column: Column) -> Column:
    """Let a column through that can be compared with `=`.

    :raises UnsupportedCondition: it cannot.
    """
    kind_of(column)
    if column.collation and not column.collation.deterministic:
        raise UnsupportedCondition(f"{column}: its collation {column.collation.name} takes different texts for equal.")
    return column


def orderable(column: Column) -> Column:
    """Let a column through that can be compared with `<`.

    :raises UnsupportedCondition: it cannot.
    """
    if column.type in _TEXTS and not (column.collation and column.collation.by_code_point):
        raise UnsupportedCondition(
            f'{column}: only PostgreSQL knows the order of its collation. That of COLLATE "C" is known here too.'
        )
    return comparable(column)


def nullable(column: Column) -> Column:
    """Let a column through that can be asked whether it is null.

    :raises UnsupportedCondition: it cannot.
    """
    if not column.shows_null:
        raise UnsupportedCondition(f"{column}: its null in JSON is not always NULL in SQL.")
    return column


def alike(column: Column, other: Column) -> bool:
    """Whether two columns can be compared with each other: PostgreSQL would convert neither."""
    same = column.type == other.type or any({column.type, other.type} <= types for types in (_INTEGERS, _STRINGS))
    return same and column.collation == other.collation


def pattern_for(column: Column, text: str, escape: str) -> Pattern:
    """Read a pattern that a column is compared with.

    :raises UnsupportedCondition: it is none, or the column no text.
    """
    if comparable(column).type not in _TEXTS:
        raise UnsupportedCondition(f"{column} is no text: like and ilike compare texts.")
    try:
        kind_of(column).literal(text)
        return read_pattern(text, escape)
    except ValueError as error:
        raise UnsupportedCondition(f"{text[:80]!r} is no pattern for {column}: {error}") from None


def folding_of(column: Column, pattern: Pattern) -> tuple[str, ...]:
    """Return how ILIKE folds the texts of a column, for one pattern.

    :raises UnsupportedCondition: that is not known.
    """
    folding = column.collation.folding if column.collation else None
    if folding is None:
        raise UnsupportedCondition(f"{column}: only PostgreSQL knows what its collation takes for the same letter.")
    if folding and not pattern.text.isascii():
        raise UnsupportedCondition(
            f"{pattern.text[:80]!r}: beyond ASCII only PostgreSQL knows which letters ilike takes for the same."
        )
    return folding
