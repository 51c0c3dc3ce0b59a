"""One boolean expression over the columns of a table, as SQL and as a Python test that agree."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from pgevents_push.errors import UnsupportedCondition
from pgevents_push.hub.columns import Column, Columns
from pgevents_push.hub.expressions import Reader
from pgevents_push.hub.predicate import Equalities, Parameters, Predicate, Test, every
from pgevents_push.hub.values import kind_of


@dataclass(frozen=True, slots=True)
class Condition:
    """Which rows count. Equal ones hash alike, however they were written.

    `columns` are those that it reads. `equalities` are necessary: for some columns the values, as `index_key` makes
    them, one of which a row must have. The SQLAlchemy expression that it was made of is not kept: it is the larger
    part by far.

    `holds(row)` tells whether PostgreSQL would say TRUE of a row: decoded JSON, as `event.decode` gives it. A value
    that is missing, or is none of its column's type because the table was altered, makes no term true.
    """

    predicate: Predicate
    columns: frozenset[str] = field(init=False, compare=False)
    equalities: Equalities = field(init=False, compare=False)
    holds: Test = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", _names(self.predicate.reads))
        object.__setattr__(self, "equalities", self.predicate.equalities)
        object.__setattr__(self, "holds", self.predicate.test())


@lru_cache(maxsize=1024)
def _names(columns: frozenset[Column]) -> frozenset[str]:
    """One set for all conditions on the same columns: thousands of them are looked at for a change."""
    return frozenset(column.name for column in columns)


def condition(expression: sa.ColumnElement[bool], columns: Columns) -> Condition:
    """Make a condition of a SQLAlchemy expression.

    :param columns: all columns of the table that it may read.
    :raises UnsupportedCondition: it cannot be evaluated exactly as PostgreSQL would.
    """
    return Condition(Reader(columns).read(sa.and_(expression)))  # and_() also takes True, and what stands for a column


def both(*conditions: Condition | None) -> Condition | None:
    """Return what holds where all of these hold; None when there is none."""
    given = [condition for condition in conditions if condition is not None]
    if len(given) < 2:
        return given[0] if given else None
    return Condition(every(one.predicate for one in given))


def index_key(column: Column, value: Any) -> Hashable:
    """Return what a row's JSON value is in `equalities`; None for NULL, and for what is no value of the column's type.

    :raises UnsupportedCondition: values of this type cannot be compared; no condition has it in its equalities.
    """
    key: Hashable = kind_of(column).of_json(value)
    return key


def where_sql(condition: Condition, columns: Columns) -> tuple[str, dict[str, str]]:
    """Return SQL for a WHERE over the table, with psycopg2's named placeholders, and its parameters.

    :param columns: those of now.
    :raises UnsupportedCondition: a column is no longer what it was when the condition was made.
    """
    for column in condition.predicate.reads:
        if columns.get(column.name) != column:
            raise UnsupportedCondition(f"{column}: the table was altered. Subscribe again.")
    parameters = Parameters()
    return condition.predicate.sql(parameters), parameters
