"""PostgreSQL is the oracle: what a condition says of a row of the log is what SQL says of the row in the table.

Each condition is asked three ways of each row: `holds`, the SQL of `where_sql`, and, independently of our code, the
SQL that SQLAlchemy makes of the expression. PGEVENTS_ORACLE_EXAMPLES=200 makes it a matter of minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pgevents_push.errors import BadParameter, UnsupportedCondition
from pgevents_push.hub.condition import Condition, condition, index_key, where_sql
from pgevents_push.hub.filters import OPERATORS, parse_filter
from tests.fixtures.oracle_expressions import STRINGS, Expression, every_filter, expressions, filters, native
from tests.fixtures.oracle_table import KINDS, Oracle
from tests.fixtures.postgres import Database, Server

ROWS = 120
AT_ONCE = 40
EXAMPLES = int(os.environ.get("PGEVENTS_ORACLE_EXAMPLES", "6"))
# The database's own collation: C; what the server was made with; one with Unicode's letters. The first that works.
COLLATIONS = {
    "C": ["LC_COLLATE 'C' LC_CTYPE 'C'"],
    "server": [""],
    "unicode": ["LOCALE_PROVIDER icu ICU_LOCALE 'en-US'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", ""],
}
# Nothing to shrink: a failure names its row and its term.
THOROUGH = settings(
    deadline=None,
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)


def created(server: Server, options: Sequence[str]) -> Database:
    """A database with the first of these options that the server knows."""
    database = Database(server, f"pgevents_test_{uuid4().hex[:12]}")
    for option in options:
        try:
            server.create(database.name, f"ENCODING 'UTF8' {option}")
            return database
        except psycopg2.Error as error:
            refused = error
    raise refused


@pytest.fixture(scope="module", params=COLLATIONS)
def oracle(server: Server, request: pytest.FixtureRequest) -> Iterator[Oracle]:
    database = created(server, COLLATIONS[request.param])
    oracle = Oracle(database)
    oracle.fill(Random(4), ROWS)
    yield oracle
    database.close()
    server.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


def test_filters(oracle: Oracle) -> None:
    compared = 0

    @THOROUGH
    @given(st.lists(filters, min_size=AT_ONCE, max_size=AT_ONCE))
    def some(texts: list[str]) -> None:
        nonlocal compared
        compared += check(oracle, texts, lambda text: parse_filter(text, oracle.columns))

    some()
    assert compared > EXAMPLES * AT_ONCE * ROWS / 4


def test_expressions(oracle: Oracle) -> None:
    compared = 0

    @THOROUGH
    @given(st.lists(expressions, min_size=AT_ONCE, max_size=AT_ONCE))
    def some(written: list[Expression]) -> None:
        nonlocal compared
        compared += check(oracle, written, lambda expression: expression)

    some()
    assert compared > EXAMPLES * AT_ONCE * ROWS / 4


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_with_every_value(oracle: Oracle, operator: str) -> None:
    served = set()
    for kind in KINDS:
        compared = check(oracle, every_filter(kind, operator), lambda text: parse_filter(text, oracle.columns))
        if compared:
            served.add(kind)
    assert served == expected(oracle, operator)


def expected(oracle: Oracle, operator: str) -> set[str]:
    """The kinds of columns that an operator serves."""
    collations = {kind: oracle.columns[kind].collation for kind in STRINGS}
    exact = {kind for kind, collation in collations.items() if collation and collation.deterministic}
    if operator == "is":
        return set(KINDS) - {"json"}
    if operator == "like":
        return exact
    if operator == "ilike":
        return {kind for kind in exact if oracle.columns[kind].collation.folding is not None}  # type: ignore[union-attr]
    equal = set(KINDS) - {"json", "list", "span", "bytes"} - (set(STRINGS) - exact)
    if operator in ("eq", "neq", "in"):
        return equal
    known = {kind for kind in exact if oracle.columns[kind].collation.by_code_point}  # type: ignore[union-attr]
    return equal - set(STRINGS) | known


def check(oracle: Oracle, sources: Sequence[Any], expression_of: Callable[[Any], Expression]) -> int:
    """Compare all that are not refused, and return in how many cases."""
    found: list[tuple[Expression, Condition]] = []
    for source in sources:
        try:
            expression = expression_of(source)
            found.append((expression, condition(expression, oracle.columns)))
        except (BadParameter, UnsupportedCondition):
            continue
    if not found:
        return 0
    wheres = [oracle.written(*where_sql(one, oracle.columns)) for _, one in found]
    natives = [native(oracle, expression) or where for (expression, _), where in zip(found, wheres, strict=True)]
    true, hits = oracle.true_for(natives), oracle.found(wheres)
    for at, (_, one) in enumerate(found):
        for number, row in oracle.rows.items():
            said = (one.holds(row), true[number][at], number in hits[at])
            if len(set(said)) > 1 or (said[0] and not all(is_among(oracle, one, row, name) for name in one.equalities)):
                seen = {name: row[name] for name in one.columns}
                raise AssertionError(f"{said} for {seen}, among {one.equalities}\n{wheres[at]}\n{natives[at]}")
    return len(found) * len(oracle.rows)


def is_among(oracle: Oracle, one: Condition, row: Any, name: str) -> bool:
    return index_key(oracle.columns[name], row[name]) in one.equalities[name]
