"""The terms of a predicate: what each says about a row, and how it is written in SQL; pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pgevents_push.hub.columns import Column
from pgevents_push.hub.dialect import quote
from pgevents_push.hub.patterns import Pattern, fold
from pgevents_push.hub.predicate import Equalities, Parameters, Predicate, Row, Test
from pgevents_push.hub.values import KINDS, Literal, kind_of

SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Term(Predicate):
    """Something about one column."""

    column: Column

    @property
    def reads(self) -> frozenset[Column]:
        return frozenset([self.column])

    def _on_value(self, read: Callable[[Any], Any], tells: Callable[[Any], Any]) -> Test:
        name = self.column.name
        return lambda row: (value := read(row.get(name))) is not None and tells(value)

    def _sql(self, sign: str, right: str) -> str:
        return f"{_written(self.column)} OPERATOR(pg_catalog.{sign}) {right}"


@dataclass(frozen=True, slots=True)
class IsNull(_Term):
    """`column IS NULL`, or IS NOT NULL."""

    negated: bool

    def test(self) -> Test:
        name = self.column.name
        if self.negated:
            return lambda row: row.get(name) is not None
        return lambda row: row.get(name, row) is None

    def sql(self, parameters: Parameters) -> str:
        return f"{quote(self.column.name)} IS {'NOT ' if self.negated else ''}NULL"


@dataclass(frozen=True, slots=True)
class Among(_Term):
    """`column IN (…)`, or NOT IN; with one value `=` or `<>`."""

    values: frozenset[Literal]
    negated: bool

    @property
    def equalities(self) -> Equalities:
        return {} if self.negated else {self.column.name: frozenset(literal.value for literal in self.values)}

    def test(self) -> Test:
        name, read = self.column.name, kind_of(self.column).of_json
        values = frozenset(literal.value for literal in self.values)
        if self.negated:
            return self._on_value(read, lambda value: value not in values)
        return lambda row: read(row.get(name)) in values

    def sql(self, parameters: Parameters) -> str:
        texts, sign = sorted(literal.text for literal in self.values), "<>" if self.negated else "="
        if len(texts) == 1:
            return self._sql(sign, parameters.add(texts[0]))
        array = "{" + ",".join(map(_element, texts)) + "}"
        return self._sql(sign, f"{'ALL' if self.negated else 'ANY'} ({parameters.add(array)})")


@dataclass(frozen=True, slots=True)
class Ordered(_Term):
    """`column < value`, and so on."""

    sign: str
    limit: Literal

    def test(self) -> Test:
        kind, compare = kind_of(self.column), SIGNS[self.sign]
        limit: Any = self.limit.value if kind.ranks is None else kind.ranks[self.limit.value]
        name, read = self.column.name, kind.ordered
        return lambda row: (value := read(row.get(name))) is not None and compare(value, limit)

    def sql(self, parameters: Parameters) -> str:
        return self._sql(self.sign, parameters.add(self.limit.text))


@dataclass(frozen=True, slots=True)
class Compared(_Term):
    """`column = other`, `column < other` and so on, within a row."""

    sign: str
    other: Column

    @property
    def reads(self) -> frozenset[Column]:
        return frozenset([self.column, self.other])

    def test(self) -> Test:
        kind, name, other, compare = kind_of(self.column), self.column.name, self.other.name, SIGNS[self.sign]
        read = kind.of_json if self.sign in ("=", "<>") else kind.ordered

        def test(row: Row) -> bool:
            left, right = read(row.get(name)), read(row.get(other))
            return left is not None and right is not None and bool(compare(left, right))

        return test

    def sql(self, parameters: Parameters) -> str:
        return self._sql(self.sign, _written(self.other))


@dataclass(frozen=True, slots=True)
class Like(_Term):
    """`column LIKE pattern`, or NOT LIKE; with a `folding` (see `Collation`) ILIKE."""

    pattern: Pattern
    folding: tuple[str, ...] | None
    negated: bool

    def test(self) -> Test:
        matches = self._matcher()
        # Of a character(n) with its padding, which LIKE sees.
        return self._on_value(KINDS["text"].of_json, (lambda text: not matches(text)) if self.negated else matches)

    def _matcher(self) -> Callable[[str], bool]:
        if self.folding is None:
            return self.pattern.matcher()
        folded, matches = fold(self.folding), self.pattern.folded(self.folding).matcher()
        return lambda text: matches(folded(text))

    def sql(self, parameters: Parameters) -> str:
        sign = ("!" if self.negated else "") + ("~~" if self.folding is None else "~~*")
        return self._sql(sign, parameters.add(self.pattern.text))


def _written(column: Column) -> str:
    """Write a column. A domain over an enum has no operators of its own until it is cast."""
    cast = "::" + column.type.replace("%", "%%") if column.labels else ""
    return quote(column.name) + cast


def _element(text: str) -> str:
    """Write an element of an array."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
