"""What a row must be like: a tree of terms that becomes a Python test and SQL, which agree; pure.

Negations stand in the terms only (`NOT a < 1` is `a >= 1`), so nothing in the tree turns SQL's NULL into TRUE except
IS NULL: "TRUE or not" is all that a term has to tell, and AND and OR are Python's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pgevents_push.hub.columns import Column

Row: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Row], bool]
Equalities: TypeAlias = Mapping[str, frozenset[Hashable]]


class Parameters(dict[str, str]):
    """The parameters of a statement. All are text that psycopg2 writes without a type, so that PostgreSQL reads each
    as a value of its column's type and takes the operator of that type."""

    def add(self, text: str) -> str:
        """Take a value and return the placeholder for it."""
        name = f"value_{len(self)}"
        self[name] = text
        return f"%({name})s"


class Predicate(ABC):
    """A term, or several combined. Equal ones are equal and hash alike."""

    __slots__ = ()

    @property
    def reads(self) -> frozenset[Column]:
        """The columns that it looks at."""
        return frozenset()

    @property
    def equalities(self) -> Equalities:
        """For some columns the values one of which a row must have."""
        return {}

    @abstractmethod
    def test(self) -> Test:
        """Return a function that tells whether a row makes it TRUE. A value that the row lacks, or that is none of
        its column's type, makes no term true."""

    @abstractmethod
    def sql(self, parameters: Parameters) -> str:
        """Write it for a WHERE, adding its parameters. Operators are named with their schema: no search_path brings
        others in."""


@dataclass(frozen=True, slots=True)
class Constant(Predicate):
    """TRUE or FALSE for every row."""

    value: bool

    def test(self) -> Test:
        value = self.value
        return lambda row: value

    def sql(self, parameters: Parameters) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, slots=True)
class _Group(Predicate):
    """Several terms."""

    parts: frozenset[Predicate]

    @property
    def reads(self) -> frozenset[Column]:
        return frozenset[Column]().union(*(part.reads for part in self.parts))

    def _joined(self, word: str, parameters: Parameters) -> str:
        # Not in the order of the set, which is another one in each process.
        in_order = sorted(self.parts, key=lambda part: part.sql(Parameters()))
        return "(" + word.join(part.sql(parameters) for part in in_order) + ")"


class Every(_Group):
    """All of these, AND."""

    __slots__ = ()

    @property
    def equalities(self) -> Equalities:
        found: dict[str, frozenset[Hashable]] = {}
        for part in self.parts:
            for name, values in part.equalities.items():
                found[name] = found[name] & values if name in found else values
        return found

    def test(self) -> Test:
        tests = tuple(part.test() for part in self.parts)

        def test(row: Row) -> bool:
            for one in tests:  # noqa: SIM110 (all() with a generator takes half as long again)
                if not one(row):
                    return False
            return True

        return test

    def sql(self, parameters: Parameters) -> str:
        return self._joined(" AND ", parameters)


class Some(_Group):
    """At least one of these, OR."""

    __slots__ = ()

    @property
    def equalities(self) -> Equalities:
        first, *others = [part.equalities for part in self.parts]
        common = set(first).intersection(*others)
        return {name: first[name].union(*(other[name] for other in others)) for name in common}

    def test(self) -> Test:
        tests = tuple(part.test() for part in self.parts)

        def test(row: Row) -> bool:
            for one in tests:  # noqa: SIM110 (see Every)
                if one(row):
                    return True
            return False

        return test

    def sql(self, parameters: Parameters) -> str:
        return self._joined(" OR ", parameters)


def every(parts: Iterable[Predicate]) -> Predicate:
    """Return the conjunction, simplified."""
    return _combined(Every, parts, neutral=True)


def some(parts: Iterable[Predicate]) -> Predicate:
    """Return the disjunction, simplified."""
    return _combined(Some, parts, neutral=False)


def _combined(group: type[_Group], parts: Iterable[Predicate], neutral: bool) -> Predicate:
    flat: set[Predicate] = set()
    for part in parts:
        flat |= part.parts if isinstance(part, group) else {part}
    flat.discard(Constant(neutral))
    if not flat or Constant(not neutral) in flat:
        return Constant(neutral if not flat else not neutral)
    return flat.pop() if len(flat) == 1 else group(frozenset(flat))
