"""The filter grammar: what it reads, what it refuses and says then, and that no text gets through it otherwise."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.errors import BadParameter
from pgevents_push.hub import filters
from pgevents_push.hub.columns import Collation, Column, Columns
from pgevents_push.hub.condition import condition
from pgevents_push.hub.filters import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_PATTERN,
    MAX_TERMS,
    MAX_VALUES,
    OPERATORS,
    parse_filter,
    parse_filters,
)
from pgevents_push.hub.numbers import MAX_DIGITS
from pgevents_push.hub.values import KINDS
from tests.fixtures.effort import MOST_TIMES, cpu_seconds

ENGLISH = Collation("public.english", folding=("k", "i"))
KNOWN = Collation('pg_catalog."C"', by_code_point=True, folding=())
ALL = [
    Column("id", "integer"),
    Column("total", "numeric"),
    Column("paid", "boolean"),
    Column("status", "public.status", ("open", "paid", "a,b")),
    Column("name", "text", collation=ENGLISH),
    Column("code", "text", collation=KNOWN),
    Column("at", "timestamp with time zone"),
    Column("data", "jsonb", shows_null=False),
    Column("tags", "text[]"),
    Column("and", "integer"),
    Column("not", "integer"),
    Column("a.b", "integer"),
    Column('q"=\\', "integer"),
]
COLUMNS: Columns = {column.name: column for column in ALL}
EXAMPLES: Columns = {
    **COLUMNS,
    "status": Column("status", "public.status", ("open", "new")),
    "deleted_at": Column("deleted_at", "date"),
}
ROW: dict[str, Any] = {
    "id": 7, "total": 12.5, "paid": True, "status": "open", "name": 'a "b", c)', "code": "x",
    "at": "2026-01-31T12:00:00+00:00", "data": None, "tags": None, "and": 1, "not": 2, "a.b": 3, 'q"=\\': 4,
}  # fmt: skip


def holds(*texts: str) -> bool:
    return condition(parse_filters(texts, COLUMNS), COLUMNS).holds(ROW)


@pytest.mark.parametrize(
    "text",
    [
        "id=eq.7", "id=eq.+7", "id=not.eq.8", "id=neq.8", "id=lt.8", "id=lte.7", "id=gt.6", "id=gte.7", "id=in.(1,7)",
        "id=not.in.(1,2)", "id=not.in.()", "id=is.not_null", "id=not.is.null", "tags=is.null", "tags=is.NULL",
        "total=eq.12.50", "total=lt.1e2", "total=lt.Infinity", "paid=is.true", "paid=not.is.false", "paid=eq.t",
        "status=eq.open", "status=lt.paid", 'status=not.in.("a,b")', "at=gte.2026-01-31T13:00:00+01:00",
        "at=eq.2026-01-31T12:00Z", 'name=eq.a "b", c)', 'name=in.("a \\"b\\", c)",x)', "name=like.a*c)",
        "name=ilike.A*", "name=like.%b%", "name=not.like.*B*", "code=lt.y", "code=ilike.X",
        "and=(id.eq.7,total.gt.1)", "or=(id.eq.1,total.gt.1)", "not.or=(id.eq.1,total.gt.100)",
        "and=( id.eq.7 , paid.is.true )", "and=(or(id.eq.1,id.eq.7),not.and(id.eq.1,paid.is.true))",
        'or=(name.eq."a \\"b\\", c)",id.eq.1)', 'and=(status.in.(open,"a,b"),id.not.in.(1,2))',
        "and=(and.eq.1,not.eq.2)", '"and"=eq.1', "not=eq.2", '"a.b"=eq.3',
        "a.b=eq.3", 'and=("a.b".eq.3)', '"q\\"=\\\\"=eq.4', 'and=("q\\"=\\\\".in.(4))',
    ],
)  # fmt: skip
def test_holds(text: str) -> None:
    assert holds(text)
    if not text.startswith(("not.", "and", "or", '"and')):
        column, _, test = text.rpartition("=") if text.startswith('"q') else text.partition("=")
        opposite = test.removeprefix("not.") if test.startswith("not.") else f"not.{test}"
        assert not holds(f"{column}={opposite}")


def test_several_must_all_hold() -> None:
    assert holds("id=eq.7", "paid=is.true")
    assert not holds("id=eq.7", "paid=is.false")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secret=eq.1", "'secret' is not exposed"),
        ("and=(id.eq.1,secret.eq.2)", "'secret' is not exposed"),
        ("=eq.1", "a column must stand where '=eq.1' is"),
        ("", "a column must stand where '' is"),
        ("id", "'=' must stand where '' is"),
        ("id=7", "an operator"),
        ("id=like", "an operator"),
        ("id=not.not.eq.1", "'not' is not one of eq, neq"),
        ("id=match.1", "'match' is not one of eq, neq"),
        ("id=eq(any).1", "an operator"),
        ("id=EQ.1", "'EQ' is not one of"),
        ("id=eq.x", "'x' is no value of 'id' (integer): write a whole number"),
        ("id=eq.", "'' is no value of 'id'"),
        ("id=eq.null", "'null' is no value of 'id'"),
        ("id=eq.2147483648", "'2147483648' is no value of 'id' (integer): it is out of range"),
        ("id=in.1", "'(' must stand where '1' is"),
        ("id=in.(1,2", "')' must stand where '' is"),
        ("id=in.(1,2)x", "the end must stand where 'x' is"),
        ('id=in.("1"2)', "')' must stand where '2)' is"),
        ("id=is.1", "is takes null, not_null, true, false, not '1'"),
        ("id=is.true", "'id' (integer) cannot be compared with 'True' (bool)"),
        ("id=like.1*", "'id' (integer) is no text"),
        ("status=eq.shut", "'shut' is no value of 'status' (public.status): there is open, paid, a,b"),
        ("status=like.o*", "'status' (public.status) is no text"),
        ("name=lt.x", "'name' (text): only PostgreSQL knows the order of its collation"),
        ("name=ilike.\u00e4*", "beyond ASCII"),
        ("name=like.a\\", "it ends with the escape character"),
        ("name=eq.\0", "PostgreSQL cannot hold this text"),
        ("name=eq.\ud800", "PostgreSQL cannot hold this text"),
        ("at=eq.2026-01-31T12:00:00", "write it as 2026-01-31T12:00:00Z"),
        ("at=eq.2026-01-31T12:00:00 02:00", "which in a URL is %2B02:00"),
        ("at=eq.now", "write it as"),
        ("paid=eq.maybe", "write true or false"),
        ("data=eq.1", "'data' (jsonb) can only be asked whether it is null"),
        ("data=is.null", "'data' (jsonb): its null in JSON is not always NULL in SQL"),
        ("tags=eq.{}", "'tags' (text[]) can only be asked whether it is null"),
        ("and=()", "a column must stand where ')' is"),
        ("and=(id.eq.1", "')' must stand where '' is"),
        ("and=(id.eq.1)x", "the end must stand"),
        ("and=(id.eq.1,)", "a column must stand"),
        ("and(id.eq.1)", "'and(id.eq.1)' is not exposed"),
        ("not.not.and=(id.eq.1)", "'not.not.and' is not exposed"),
    ],
)  # fmt: skip
def test_refuses(text: str, said: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_filter(text, COLUMNS)
    assert str(caught.value).startswith("filter: ")
    assert said in str(caught.value)
    assert caught.value.status == 400


def grouped(terms: int) -> str:
    return f"and=({','.join(['id.eq.1'] * terms)})"


@pytest.mark.parametrize(
    ("most", "more"),
    [
        ([grouped(MAX_TERMS)], [grouped(MAX_TERMS + 1)]),
        ([grouped(MAX_TERMS - 1), "id=eq.1"], [grouped(MAX_TERMS), "id=eq.1"]),
        ([f"id=in.({','.join('1' * MAX_VALUES)})"], [f"id=in.({','.join('1' * (MAX_VALUES + 1))})"]),
        ([f"id=in.({','.join('1' * MAX_VALUES)})"], [f"id=in.({','.join('1' * MAX_VALUES)})", "id=in.(1)"]),
        (["name=like." + "a" * MAX_PATTERN], ["name=like." + "a" * (MAX_PATTERN + 1)]),
        (["name=eq." + "a" * (MAX_LENGTH - 8)], ["name=eq." + "a" * (MAX_LENGTH - 7)]),
        (["or=(" + "and(" * (MAX_DEPTH - 1) + "id.eq.1" + ")" * MAX_DEPTH],
         ["or=(" + "and(" * MAX_DEPTH + "id.eq.1" + ")" * (MAX_DEPTH + 1)]),
    ],
)  # fmt: skip
def test_caps(most: list[str], more: list[str]) -> None:
    parse_filters(most, COLUMNS)
    with pytest.raises(BadParameter, match=r"more than|at most|deeper than"):
        parse_filters(more, COLUMNS)


def test_what_is_said_is_short_whatever_was_sent() -> None:
    for text in (
        "x" * 4000 + "=eq.1",
        "id=" + "x" * 4000 + ".1",
        "id=eq." + "x" * 4000,
        "name=like." + "x" * 4000,
        "id" * 3000,
    ):
        with pytest.raises(BadParameter) as caught:
            parse_filter(text, COLUMNS)
        assert len(str(caught.value)) < 300


pieces = st.sampled_from(
    [*COLUMNS, *OPERATORS, "not", "and", "or", "null", "true", "any", *'.,()="\\*% :+-', "1", "x", "\0", "\ud800"]
)
some = st.lists(pieces, min_size=1, max_size=30).map("".join)
anything = st.one_of(
    st.text(max_size=200),
    some,
    some.map("and=({}".format),
    some.map("id=in.({}".format),
    st.builds(lambda text, times: (text * times)[: MAX_LENGTH + 10], some, st.integers(1, 4000)),
)
cpu: list[float] = []


def most() -> float:
    """How many seconds of CPU a text may take."""
    return MOST_TIMES * cpu_seconds(lambda: parse_filter(grouped(MAX_TERMS), COLUMNS))


@settings(deadline=None, max_examples=200)
@given(anything)
def test_no_text_does_harm(text: str) -> None:
    began = time.thread_time()
    try:
        parse_filter(text, COLUMNS)
    except BadParameter as error:
        str(error).encode("utf8", "backslashreplace")
    cpu.append(time.thread_time() - began)


def test_none_costs_much_more_than_an_ordinary_one() -> None:
    """Nine in ten, as some may be hit by the garbage collector."""
    assert len(cpu) >= 200
    assert sorted(cpu)[len(cpu) * 9 // 10] < most()


@pytest.mark.parametrize(
    "text",
    [
        "id=in.(" + '"1",' * 1000, "name=in.(" + '"\\"' * 1300, "id=in.(" + ",".join("1" * 100) + ")", grouped(8),
        "and=(" * 800, "or=(" + "and(" * 800, "id=eq." + "1" * 4000, "total=eq." + "1" * 4000, "total=eq.1e99999",
        "total=eq.1e-99999",
        "total=eq." + "1" * 4000 + "x", "total=eq." + "1." * 2000,
        "at=eq." + "2" * 4000, "name=like." + "%a" * 50, "name=like." + "_" * 4000,
        '"' + "\\" * 4000, "id=" + "not." * 1000,
    ],
)  # fmt: skip
def test_nor_does_one_made_for_it(text: str) -> None:
    def attempt() -> None:
        with suppress(BadParameter):
            parse_filter(text, COLUMNS)

    assert cpu_seconds(attempt) < most()


def test_the_readme_tells_all_of_it() -> None:
    text = (Path(filters.__file__).parent / "README.md").read_text()
    assert all(f"`{kind}`" in text for kind in KINDS)
    assert f"`{' '.join(OPERATORS)}`" in text
    caps = f"{MAX_TERMS} terms, {MAX_VALUES} values in lists, {MAX_LENGTH} characters"
    assert f"{caps}; a pattern has up to {MAX_PATTERN}, groups nest {MAX_DEPTH} deep" in text
    assert f"up to {MAX_DIGITS:,} digits" in text
    [examples] = re.findall(r"(?ms)^```\n(.*?)^```", text)
    for example in re.split(r"\n|  +", examples.strip()):
        parse_filter(example, EXAMPLES)
