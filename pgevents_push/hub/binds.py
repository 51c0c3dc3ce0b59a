"""The values in a SQLAlchemy expression, as the driver would send them; pure."""

from __future__ import annotations

from typing import Any

from sqlalchemy.sql import elements

from pgevents_push.errors import UnsupportedCondition
from pgevents_push.hub.dialect import DIALECT


def bound(expression: Any) -> Any:
    """Return the value that an expression is.

    :raises UnsupportedCondition: it is none.
    """
    if isinstance(expression, elements.Null):
        return None
    if isinstance(expression, (elements.True_, elements.False_)):
        return isinstance(expression, elements.True_)
    if not isinstance(expression, elements.BindParameter) or expression.expanding:
        raise _no_value(expression)
    return _sent(expression, [expression.effective_value])[0]


def bound_list(expression: Any) -> list[Any]:
    """Return the values of the right side of an IN.

    :raises UnsupportedCondition: it is no list of values.
    """
    if isinstance(expression, elements.Grouping):
        expression = expression.element
    if isinstance(expression, elements.ClauseList):
        return [bound(part) for part in expression.clauses]
    if not isinstance(expression, elements.BindParameter) or not expression.expanding:
        raise _no_value(expression)
    return _sent(expression, list(expression.effective_value or ()))


def _sent(parameter: elements.BindParameter[Any], values: list[Any]) -> list[Any]:
    """Return what the parameter's type makes of values: an Enum's label, whatever a TypeDecorator likes."""
    kind: Any = parameter.type.dialect_impl(DIALECT)
    unset = parameter.required and parameter.value is None and parameter.callable is None
    if unset or kind.bind_expression(parameter) is not None:  # SQL around the value, a function for example
        raise _no_value(parameter)
    processor = kind.bind_processor(DIALECT)
    try:
        return [processor(value) for value in values] if processor else values
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise UnsupportedCondition(f"A value is none for {parameter.type!r:.80}: {error}") from error


def _no_value(expression: Any) -> UnsupportedCondition:
    return UnsupportedCondition(f"{str(expression)[:200]} is no value: compare columns of this table with values.")
