"""Reads a SQLAlchemy expression over the columns of one table as a predicate; pure. Refuses what it is not sure of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import elements, operators

from pgevents_push.errors import UnsupportedCondition
from pgevents_push.hub.abilities import alike, comparable, folding_of, nullable, orderable, pattern_for
from pgevents_push.hub.binds import bound, bound_list
from pgevents_push.hub.columns import Column, Columns
from pgevents_push.hub.predicate import Constant, Predicate, every, some
from pgevents_push.hub.terms import Among, Compared, IsNull, Like, Ordered
from pgevents_push.hub.values import literal

_OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_FLIPPED = {"=": "=", "<>": "<>", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_SIGNS: dict[Any, str] = {
    operators.eq: "=", operators.ne: "<>", operators.lt: "<", operators.le: "<=", operators.gt: ">", operators.ge: ">=",
}  # fmt: skip


class Reader:
    """Reads expressions over these columns."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def read(self, expression: Any, negated: bool = False) -> Predicate:
        """Return what makes the expression TRUE; when `negated`, what makes it FALSE.

        :raises UnsupportedCondition: it cannot be evaluated exactly.
        """
        for kind, read in _READERS.items():
            if isinstance(expression, kind):
                return read(self, expression, negated)
        raise _unsupported(expression)

    def _group(self, expression: elements.BooleanClauseList, negated: bool) -> Predicate:
        parts = [self.read(part, negated) for part in expression.clauses]
        return every(parts) if (expression.operator is operators.and_) is not negated else some(parts)

    def _inner(self, expression: elements.Grouping[Any], negated: bool) -> Predicate:
        return self.read(expression.element, negated)

    def _opposite(self, expression: elements.UnaryExpression[Any], negated: bool) -> Predicate:
        if expression.operator is not operators.inv:
            raise _unsupported(expression)
        return self.read(expression.element, not negated)

    def _constant(self, expression: Any, negated: bool) -> Predicate:
        value = bound(expression)
        if value is not None and not isinstance(value, bool):
            raise _unsupported(expression)
        return Constant(value is not None and value is not negated)

    def _truth(self, expression: elements.AsBoolean, negated: bool) -> Predicate:
        return self.read(expression.element, (expression.operator is operators.is_false) is not negated)

    def _bare(self, expression: elements.ColumnClause[Any], negated: bool) -> Predicate:
        return self._equal(self.column(expression), not negated, negated=False)

    def _binary(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        if expression.operator in _SIGNS:
            return self._comparison(expression, negated)
        if expression.operator not in _OPERATORS:
            raise _unsupported(expression)
        read, opposite = _OPERATORS[expression.operator]
        return read(self, expression, opposite is not negated)

    def _comparison(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        sign, left, right = _SIGNS[expression.operator], expression.left, expression.right
        if isinstance(right, elements.ColumnClause) and not isinstance(left, elements.ColumnClause):
            sign, left, right = _FLIPPED[sign], right, left
        sign, column = _OPPOSITE[sign] if negated else sign, self.column(left)
        if isinstance(right, elements.ColumnClause):
            return self._columns_compared(sign, column, self.column(right))
        value = bound(right)
        if sign in ("=", "<>"):
            return self._equal(column, value, negated=sign == "<>")
        return self._ordered(column, sign, value)

    def _equal(self, column: Column, value: Any, negated: bool) -> Predicate:
        if value is None:
            return Constant(False)  # `= NULL` is never TRUE
        return Among(comparable(column), frozenset([literal(column, value)]), negated)

    def _ordered(self, column: Column, sign: str, value: Any) -> Predicate:
        return Constant(False) if value is None else Ordered(orderable(column), sign, literal(column, value))

    def _columns_compared(self, sign: str, column: Column, other: Column) -> Predicate:
        if other.name < column.name:
            sign, column, other = _FLIPPED[sign], other, column
        ready = comparable if sign in ("=", "<>") else orderable
        if not alike(ready(column), ready(other)):
            raise UnsupportedCondition(f"{column} and {other} are not of the same type and collation.")
        return Compared(column, sign, other)

    def _membership(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        column, given = comparable(self.column(expression.left)), bound_list(expression.right)
        values = frozenset(literal(column, value) for value in given if value is not None)
        if not given:
            return Constant(negated)
        if not values or (negated and None in given):
            return Constant(False)  # `IN (NULL)`, `NOT IN (…, NULL)` are never TRUE
        return Among(column, values, negated)

    def _identity(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        column, wanted = self.column(expression.left), bound(expression.right)
        if wanted is None:
            return IsNull(nullable(column), negated)
        if not isinstance(wanted, bool):
            raise _unsupported(expression)
        if negated:
            return some([self._equal(column, not wanted, negated=False), IsNull(nullable(column), False)])
        return self._equal(column, wanted, negated=False)

    def _distinct(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        column, value = self.column(expression.left), bound(expression.right)
        if value is None:
            return IsNull(nullable(column), not negated)
        equal = self._equal(column, value, negated=not negated)
        return equal if negated else some([equal, IsNull(nullable(column), False)])

    def _between(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        if expression.modifiers.get("symmetric"):
            raise _unsupported(expression)
        column, (low, high) = self.column(expression.left), map(bound, expression.right.clauses)
        if negated:
            return some([self._ordered(column, "<", low), self._ordered(column, ">", high)])
        return every([self._ordered(column, ">=", low), self._ordered(column, "<=", high)])

    def _like(self, expression: elements.BinaryExpression[Any], negated: bool) -> Predicate:
        column, value = self.column(expression.left), bound(expression.right)
        before, after, folded = _PATTERNS[expression.operator]
        if value is None:
            return Constant(False)
        if not isinstance(value, str):
            raise _unsupported(expression)
        escape = expression.modifiers.get("escape")
        pattern = pattern_for(column, f"{before}{value}{after}", "\\" if escape is None else escape)
        return Like(column, pattern, folding_of(column, pattern) if folded else None, negated)

    def column(self, expression: Any) -> Column:
        """Return the column that an expression is.

        :raises UnsupportedCondition: it is none of this table.
        """
        if not isinstance(expression, elements.ColumnClause) or expression.is_literal:
            raise _unsupported(expression)
        column = self._columns.get(str(expression.name))
        if column is None:
            raise UnsupportedCondition(f"There is no column {str(expression.name)[:80]!r}.")
        if not _is_of(expression.table, column):
            table = getattr(expression.table, "fullname", expression.table)
            raise UnsupportedCondition(f"{table!s:.100}.{column.name} is not a column of {column.table}.")
        return column


_READERS: dict[type, Callable[[Reader, Any, bool], Predicate]] = {
    elements.BooleanClauseList: Reader._group,
    elements.Grouping: Reader._inner,
    elements.AsBoolean: Reader._truth,
    elements.ColumnClause: Reader._bare,
    elements.UnaryExpression: Reader._opposite,
    elements.BindParameter: Reader._constant,
    elements.True_: Reader._constant,
    elements.False_: Reader._constant,
    elements.Null: Reader._constant,
    elements.BinaryExpression: Reader._binary,
}
# Who reads an operator, and whether it is the negation of what he reads.
_OPERATORS: dict[Any, tuple[Callable[[Reader, Any, bool], Predicate], bool]] = {
    operators.in_op: (Reader._membership, False),
    operators.not_in_op: (Reader._membership, True),
    operators.is_: (Reader._identity, False),
    operators.is_not: (Reader._identity, True),
    operators.is_distinct_from: (Reader._distinct, False),
    operators.is_not_distinct_from: (Reader._distinct, True),
    operators.between_op: (Reader._between, False),
    operators.not_between_op: (Reader._between, True),
}
# What stands before and after the given text in the pattern, and whether it is ILIKE's.
_AROUND = {"like": ("", ""), "startswith": ("", "%"), "endswith": ("%", ""), "contains": ("%", "%")}
_PATTERNS: dict[Any, tuple[str, str, bool]] = {
    getattr(operators, f"{negation}{fold}{name}_op"): (before, after, fold == "i")
    for name, (before, after) in _AROUND.items()
    for negation in ("", "not_")
    for fold in ("", "i")
}
_OPERATORS.update((one, (Reader._like, one.__name__.startswith("not_"))) for one in _PATTERNS)


def _is_of(table: Any, column: Column) -> bool:
    """Whether a column of this table means ours. Without a schema it is whatever the search_path says."""
    if table is None or column.table is None:
        return True
    if not isinstance(table, sa.Table) or table.name != column.table.name:
        return False
    return table.schema is None or table.schema == column.table.schema


def _unsupported(expression: Any) -> UnsupportedCondition:
    return UnsupportedCondition(
        f"{str(expression)[:200]} cannot be evaluated on changes: compare columns of this table with values."
    )
