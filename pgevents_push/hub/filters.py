"""PostgREST's filter grammar: a text becomes a SQLAlchemy expression; pure.

    filter  = column "=" test | ["not."] ("and" | "or") "=(" part *("," part) ")"
    part    = column "." test | ["not."] ("and" | "or") "(" part *("," part) ")"
    test    = ["not."] operator "." value

As there, `"…"` quotes a column, a value within a group, or one of a list: then `\\"` and `\\\\` stand for `"` and `\\`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from pgevents_push.errors import BadParameter, UnsupportedCondition
from pgevents_push.hub.columns import Columns
from pgevents_push.hub.condition import condition

# What one subscription may ask for in all its filters. The work on each change grows with the first three; matching
# a pattern of 100 characters takes at most 30 ms, in a row of 256 kB that is made for it.
MAX_TERMS = 8
MAX_VALUES = 100
MAX_PATTERN = 100
MAX_LENGTH = 4096
MAX_DEPTH = 8

_IS: dict[str, Callable[[Any], sa.ColumnElement[bool]]] = {
    "null": lambda column: column.is_(None),
    "not_null": lambda column: column.is_not(None),
    "true": lambda column: column.is_(sa.true()),
    "false": lambda column: column.is_(sa.false()),
}
OPERATORS: dict[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "eq": lambda column, value: column == value,
    "neq": lambda column, value: column != value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "in": lambda column, values: column.in_(values),
    "is": lambda column, word: _is(column, word),
    "like": lambda column, pattern: column.like(_pattern(pattern)),
    "ilike": lambda column, pattern: column.ilike(_pattern(pattern)),
}
_GROUPS: dict[str, Callable[..., sa.ColumnElement[bool]]] = {"and": sa.and_, "or": sa.or_}

_TOP_GROUP = re.compile(r"(?P<not>not\.)?(?P<word>and|or)=(?=\()")
_GROUP = re.compile(r"(?P<not>not\.)?(?P<word>and|or)(?=\()")
_QUOTED = re.compile(r'"(?P<text>(?:[^"\\]|\\.)*)"', re.DOTALL)
_TOP_NAME, _NAME = re.compile(r"[^=]+"), re.compile(r"[^.,()]+")
_TEST = re.compile(r"(?P<not>not\.)?(?P<operator>[^.,()]+)\.")
_EMPTY, _BLANKS = re.compile(r"\(\)"), re.compile(" *")
_PLAIN, _REST = re.compile(r"[^,)]*"), re.compile(r".*", re.DOTALL)


def parse_filter(text: str, columns: Columns) -> sa.ColumnElement[bool]:
    """Read a filter: `status=eq.open`, `or=(total.gt.10,paid.is.true)`.

    :param columns: those that the caller may see; any other is unknown.
    :raises BadParameter: names the column, the operator or the value.
    """
    return parse_filters([text], columns)


def parse_filters(texts: Iterable[str], columns: Columns) -> sa.ColumnElement[bool]:
    """Read filters that must all hold; the caps count over all of them.

    :raises BadParameter: as `parse_filter`.
    """
    budget = _Budget()
    expression = sa.and_(sa.true(), *(_Parser(text, columns, budget).filter() for text in texts))
    try:
        condition(expression, columns)
    except UnsupportedCondition as error:
        raise BadParameter(f"filter: {error}") from None
    return expression


class _Budget:
    """What may still be asked for."""

    def __init__(self) -> None:
        self._left = {"characters": MAX_LENGTH, "terms": MAX_TERMS, "values in lists": MAX_VALUES}
        self._most = dict(self._left)

    def spend(self, what: str, number: int) -> None:
        self._left[what] -= number
        if self._left[what] < 0:
            raise BadParameter(f"filter: more than {self._most[what]} {what}.")


class _Parser:
    """Reads one filter from left to right."""

    def __init__(self, text: str, columns: Columns, budget: _Budget) -> None:
        budget.spend("characters", len(text))
        self._text, self._columns, self._budget = text, columns, budget
        self._place = 0

    def filter(self) -> sa.ColumnElement[bool]:
        group = self._take(_TOP_GROUP)
        if group:
            expression = self._group(group, depth=1)
        else:
            name = self._name(_TOP_NAME)
            self._expect("=")
            expression = self._test(name, self._whole)
        if self._place < len(self._text):
            raise self._wrong("the end")
        return expression

    def _group(self, head: re.Match[str], depth: int) -> sa.ColumnElement[bool]:
        if depth > MAX_DEPTH:
            raise BadParameter(f"filter: groups nested deeper than {MAX_DEPTH}.")
        parts = self._listed(lambda: self._part(depth))
        return _negated(head, _GROUPS[head["word"]](*parts))

    def _part(self, depth: int) -> sa.ColumnElement[bool]:
        self._blanks()
        group = self._take(_GROUP)
        if group:
            expression = self._group(group, depth + 1)
        else:
            name = self._name(_NAME)
            self._expect(".")
            expression = self._test(name, self._value)
        self._blanks()
        return expression

    def _test(self, name: str, value: Callable[[], str]) -> sa.ColumnElement[bool]:
        self._budget.spend("terms", 1)
        test = self._take(_TEST)
        if test is None:
            raise self._wrong("an operator, as in status=eq.open,")
        if test["operator"] not in OPERATORS:
            raise BadParameter(f"filter: {test['operator'][:80]!r} is not one of {', '.join(OPERATORS)}.")
        given = self._values() if test["operator"] == "in" else value()
        return _negated(test, OPERATORS[test["operator"]](sa.column(name), given))

    def _values(self) -> list[str]:
        if self._take(_EMPTY):
            return []
        return self._listed(self._element)

    def _element(self) -> str:
        self._budget.spend("values in lists", 1)
        return self._value()

    def _name(self, plain: re.Pattern[str]) -> str:
        name = self._quoted()
        if name is None:
            found = self._take(plain)
            if found is None:
                raise self._wrong("a column")
            name = found.group()
        if name not in self._columns:
            raise BadParameter(f"filter: {name[:80]!r} is not exposed.")
        return name

    def _value(self) -> str:
        quoted = self._quoted()
        return self._found(_PLAIN) if quoted is None else quoted

    def _whole(self) -> str:
        return self._found(_REST)

    def _quoted(self) -> str | None:
        found = self._take(_QUOTED)
        return re.sub(r"\\(.)", r"\1", found["text"], flags=re.DOTALL) if found else None

    def _listed(self, one: Callable[[], Any]) -> list[Any]:
        """Read `(one,one,…)`."""
        self._expect("(")
        items = [one()]
        while self._text.startswith(",", self._place):
            self._place += 1
            items.append(one())
        self._expect(")")
        return items

    def _blanks(self) -> None:
        self._take(_BLANKS)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._place)
        self._place = found.end() if found else self._place
        return found

    def _found(self, pattern: re.Pattern[str]) -> str:
        found = self._take(pattern)
        return found.group() if found else ""

    def _expect(self, character: str) -> None:
        if not self._text.startswith(character, self._place):
            raise self._wrong(repr(character))
        self._place += 1

    def _wrong(self, expected: str) -> BadParameter:
        there = self._text[self._place :][:40]
        return BadParameter(f"filter: {expected} must stand where {there!r} is.")


def _negated(head: re.Match[str], expression: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.not_(expression) if head["not"] else expression


def _is(column: Any, word: str) -> sa.ColumnElement[bool]:
    known = word.strip(" ").lower()
    if known not in _IS:
        raise BadParameter(f"filter: is takes {', '.join(_IS)}, not {word[:80]!r}.")
    return _IS[known](column)


def _pattern(text: str) -> str:
    if len(text) > MAX_PATTERN:
        raise BadParameter(f"filter: a pattern has {len(text)} characters, at most {MAX_PATTERN} are allowed.")
    return text.replace("*", "%")  # as in PostgREST, because `%` must be escaped in a URL
