"""A condition: what it refuses, which values are necessary, when two are one, and what it makes of odd rows."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column

from pgevents_push.errors import PGEventsError, UnsupportedCondition
from pgevents_push.event import TableName
from pgevents_push.hub.columns import Collation, Column, Columns
from pgevents_push.hub.condition import both, condition, index_key, where_sql

TABLE = TableName("public", "orders")
C = Collation('pg_catalog."C"', by_code_point=True, folding=())
TYPES = {
    "id": "integer", "big": "bigint", "total": "numeric", "weight": "real", "ratio": "double precision",
    "paid": "boolean", "name": "text", "code": "character varying", "cut": "character", "status": "public.status",
    "at": "timestamp with time zone", "local": "timestamp without time zone", "day": "date", "key": "uuid",
    "clock": "time without time zone", "zoned": "time with time zone", "data": "jsonb", "span": "interval",
}  # fmt: skip
COLUMNS: Columns = {
    name: Column(
        name,
        kind,
        ("new", "open", "paid") if name == "status" else (),
        shows_null=name != "data",
        collation=Collation("public.english") if name == "name" else C if kind.startswith("char") else None,
        table=TABLE,
    )
    for name, kind in TYPES.items()
}


class Base(DeclarativeBase):
    pass


class Status(enum.Enum):
    NEW = "new"
    OPEN = "open"


class Cents(sa.TypeDecorator[int]):
    """Python has cents, the database has units."""

    impl = sa.Numeric
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else Decimal(value) / 100


class Hashed(sa.TypeDecorator[str]):
    """PostgreSQL computes with the value."""

    impl = sa.Text
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        return sa.func.md5(bindvalue)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    big = mapped_column(sa.BigInteger)
    total = mapped_column(Cents)
    weight = mapped_column(sa.REAL)
    ratio = mapped_column(sa.Double)
    paid = mapped_column(sa.Boolean)
    name = mapped_column(sa.Text)
    short = mapped_column("code", sa.String)  # another name in Python
    cut = mapped_column(Hashed)
    status = mapped_column(sa.Enum(Status, values_callable=lambda members: [member.value for member in members]))
    at = mapped_column(sa.DateTime(timezone=True))
    local = mapped_column(sa.DateTime)
    day = mapped_column(sa.Date)
    clock = mapped_column(sa.Time)
    zoned = mapped_column(sa.Time(timezone=True))
    key = mapped_column(sa.Uuid)
    data = mapped_column(sa.JSON)
    span = mapped_column(sa.Interval)
    gone = mapped_column(sa.Integer)  # not in the database


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)


class Archived(Base):
    __tablename__ = "orders"
    __table_args__ = {"schema": "archive"}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)


KEY = UUID("6c0fdc1e-1a83-4f0a-9d0c-3a1c2f0a0001")
BERLIN = timezone(timedelta(hours=2))
ROW: dict[str, Any] = {
    "id": 7, "big": 2**53 + 1, "total": 12.5, "weight": 0.1, "ratio": 0.1, "paid": True, "name": "lamp", "code": "x",
    "status": "open", "at": "2026-01-31T12:00:00.5+00:00", "local": "2026-01-31T00:00:00", "day": "2026-01-31",
    "clock": "12:00:00", "zoned": "12:00:00+02", "key": str(KEY), "data": None, "cut": "ab  ", "span": None,
}  # fmt: skip


def holds(expression: Any, row: dict[str, Any] = ROW) -> bool:
    return condition(expression, COLUMNS).holds(row)


@pytest.mark.parametrize(
    "expression",
    [
        Order.id == 7, Order.id == sa.literal(7), sa.literal(7) == Order.id, Order.id.in_([1, 7]),
        Order.id.between(7, 8), Order.big == 2**53 + 1, Order.total == 1250, Order.total.in_([1250]),
        Order.weight == 0.1, Order.weight != 0.2, Order.ratio == 0.1, Order.ratio < Decimal("0.11"), Order.ratio > 0,
        Order.paid, Order.paid.is_(True), sa.and_(Order.paid, Order.id > 1), sa.or_(~Order.paid, Order.id == 7),
        Order.paid == True, Order.name == "lamp", Order.name.like("l%"), Order.name.startswith("la"),  # noqa: E712
        ~Order.name.contains("x"), Order.short == "x", Order.short < "y", Order.status == Status.OPEN,
        Order.status > Status.NEW, Order.status.in_([Status.NEW, Status.OPEN]),
        Order.at < datetime(2026, 1, 31, 14, 0, 1, tzinfo=BERLIN), Order.local == datetime(2026, 1, 31),
        Order.local <= date(2026, 1, 31), Order.day == date(2026, 1, 31), Order.clock >= time(12),
        Order.zoned == time(12, tzinfo=BERLIN), Order.key == KEY, Order.key.in_([KEY]),
        Order.span.is_(None), Order.span == None, Order.id != None, Order.id.is_not(None),  # noqa: E711
        sa.true(), True, sa.literal(True), Order.id == Order.id, Order.id < Order.big, ~(Order.id > Order.big),
        sa.not_(Order.id.in_([])), Order.id.is_distinct_from(None), Order.span.is_not_distinct_from(None),
        sa.column("id") == "7", sa.or_(Order.id == 1, sa.and_(Order.id == 7, sa.true())),
    ],
    ids=str,
)  # fmt: skip
def test_true_for_the_row(expression: Any) -> None:
    assert holds(expression)
    assert not holds(sa.not_(sa.and_(expression)))


@pytest.mark.parametrize(
    "expression",
    [
        Order.span == None, Order.id == sa.bindparam("n", None, sa.Integer), sa.null(), sa.false(),  # noqa: E711
        Order.id.in_([None]), sa.literal(None, sa.Boolean), Order.id.not_in([1, None]),
        sa.and_(Order.id == 7, sa.null()),
        Order.id.in_([]),
    ],
    ids=str,
)  # fmt: skip
def test_null_is_never_true(expression: Any) -> None:
    assert not holds(expression, {**ROW, "id": 7, "span": "1 day"})


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (Customer.id == 7, "customers.id is not a column of public.orders"),
        (Archived.id == 7, "archive.orders.id is not a column of public.orders"),
        (aliased(Order).id == 7, "is not a column of public.orders"),
        (Order.gone == 7, "There is no column 'gone'"),
        (Order.id == Customer.id, "customers.id is not a column"),
        (sa.func.lower(Order.name) == "lamp", "lower(orders.name) cannot be evaluated on changes"),
        (Order.id + 1 == 8, "orders.id + :id_1 cannot be evaluated on changes"),
        (Order.id == Order.id + 1, "is no value: compare columns of this table with values"),
        (Order.id.in_(sa.select(Customer.id)), "is no value"),
        (Order.id == sa.select(Customer.id).scalar_subquery(), "is no value"),
        (sa.exists().where(Customer.id == Order.id), "cannot be evaluated on changes"),
        (Order.id == sa.bindparam("later"), "is no value"),
        (Order.cut == "x", "is no value"),
        (sa.text("id = 7"), "cannot be evaluated on changes"),
        (sa.literal_column("id") == 7, "cannot be evaluated on changes"),
        (sa.cast(Order.id, sa.Text) == "7", "cannot be evaluated on changes"),
        (Order.name.regexp_match("l"), "cannot be evaluated on changes"),
        (Order.name.collate("C") == "x", "cannot be evaluated on changes"),
        (Order.name < "x", "'name' (text): only PostgreSQL knows the order of its collation"),
        (Order.name.between("a", "b"), "only PostgreSQL knows the order"),
        (Order.name.ilike("x"), "only PostgreSQL knows what its collation takes for the same letter"),
        (Order.name.like(Order.short), "is no value"),
        (Order.name.like("x\\"), "it ends with the escape character"),
        (Order.name == Order.short, "and 'name' (text) are not of the same type and collation"),
        (Order.id == Order.ratio, "are not of the same type"),
        (Order.at < Order.local, "are not of the same type"),
        (Order.id == 1.5, "'id' (integer) cannot be compared with '1.5' (float)"),
        (Order.id == Decimal(1), "cannot be compared with '1' (Decimal)"),
        (Order.id == True, "'id' (integer) cannot be compared with 'True' (bool)"),  # noqa: E712
        (Order.paid == sa.literal(1), "'paid' (boolean) cannot be compared with '1' (int)"),
        (Order.id == 2**31, "it is out of range"),
        (Order.id.in_([1, 2**31]), "it is out of range"),
        (Order.weight == 1e39, "it is out of range"),
        (Order.weight == 1e-46, "it is out of range"),
        (Order.ratio == Decimal("1e400"), "it is out of range"),
        (sa.column("total") == Decimal("1e2000"), "write at most 1000 digits"),
        (sa.column("total") == Decimal("sNaN"), "write a number"),
        (sa.column("name") == 7, "'name' (text) cannot be compared with '7' (int)"),
        (sa.column("name") == b"x", "cannot be compared with"),
        (sa.column("status") == "shut", "'shut' is no value of 'status' (public.status): there is new, open, paid"),
        (Order.total == "x", "A value is none for Cents()"),
        (Order.at == datetime(2026, 1, 31), "write it as 2026-01-31T12:00:00Z"),
        (Order.local == datetime(2026, 1, 31, tzinfo=BERLIN), "without a zone"),
        (sa.column("at") == date(2026, 1, 31), "write it as"),
        (sa.column("day") == datetime(2026, 1, 31), "write it as 2026-01-31"),
        (sa.column("clock") == time(12, tzinfo=BERLIN), "without a zone"),
        (Order.span == timedelta(1), "'span' (interval) can only be asked whether it is null"),
        (sa.column("data") == "{}", "'data' (jsonb) can only be asked whether it is null"),
        (Order.data.is_(sa.null()), "'data' (jsonb): its null in JSON is not always NULL in SQL"),
        (sa.column("id").is_(sa.true()), "'id' (integer) cannot be compared"),
        (Order.id, "'id' (integer) cannot be compared"),
        (sa.literal(7), "cannot be evaluated"),
        (Order.id.between(1, 2, symmetric=True), "cannot be evaluated"),
        ((Order.id == 7).is_(True), "cannot be evaluated"),
        (sa.tuple_(Order.id, Order.big).in_([(1, 2)]), "cannot be evaluated"),
        (Order.id == sa.any_(sa.literal([1, 2], sa.ARRAY(sa.Integer))), "is no value"),
    ],
)  # fmt: skip
def test_refuses(expression: Any, said: str) -> None:
    with pytest.raises(UnsupportedCondition) as caught:
        condition(expression, COLUMNS)
    assert said in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, PGEventsError)


def test_other_texts_of_a_collation_may_be_equal() -> None:
    loose = {"name": Column("name", "text", collation=Collation("public.loose", deterministic=False))}
    for expression in (sa.column("name") == "x", sa.column("name").in_(["x"]), sa.column("name").like("x")):
        with pytest.raises(UnsupportedCondition, match=r"its collation public\.loose takes different texts for equal"):
            condition(expression, loose)
    assert condition(sa.column("name").is_(None), loose).holds({"name": None})


def test_texts_compare_only_within_a_collation() -> None:
    columns = {name: Column(name, "text", collation=Collation(name)) for name in ("a", "b")}
    with pytest.raises(UnsupportedCondition, match="not of the same type and collation"):
        condition(sa.column("a") == sa.column("b"), columns)


# --- Odd rows


@pytest.mark.parametrize("name", [name for name in TYPES if name not in ("data", "span")])
@pytest.mark.parametrize("value", [None, [], {}, "no", 1.5, True, "missing"], ids=repr)
def test_what_is_no_value_makes_no_comparison_true(name: str, value: Any) -> None:
    """Nor its negation: a table that was altered shows nobody a row by mistake."""
    column = Order.__table__.c[name] if name != "cut" else sa.column("cut")
    equal = column == (Status.OPEN if name == "status" else 1250 if name == "total" else ROW[name])
    if name in ("at", "local", "day", "clock", "zoned", "key"):
        equal = sa.column(name) == ROW[name]
    row = {key: one for key, one in ROW.items() if key != name}
    if value != "missing":
        row[name] = value
    true = [one for one in (equal, sa.not_(equal), column.in_([]), sa.null()) if holds(one, row)]
    text, number = isinstance(value, str) and value != "missing", isinstance(value, float)
    fits = (number and name in ("total", "weight", "ratio")) or (value is True and name == "paid")
    fits = fits or (text and name in ("name", "code", "cut", "key", "status"))
    assert len(true) == fits
    assert holds(sa.column(name).is_(None), row) is (value is None)
    assert holds(sa.column(name).is_not(None), row) is (value is not None and value != "missing")


def test_a_label_that_was_added_since() -> None:
    row = {"status": "shut"}
    assert holds(Order.status != Status.OPEN, row)
    assert not holds(Order.status > Status.OPEN, row)
    assert not holds(Order.status <= Status.OPEN, row)


# --- Equal conditions, necessary values


def test_equal_conditions_are_one() -> None:
    first = condition(sa.and_(Order.id == 7, sa.or_(Order.paid, Order.total > 100)), COLUMNS)
    again = condition(sa.and_(sa.or_(sa.column("total") > "1.00", Order.paid.is_(True)), Order.id.in_([7])), COLUMNS)
    assert {first, again} == {first}
    assert first != condition(sa.or_(Order.id == 7, sa.and_(Order.paid, Order.total > 100)), COLUMNS)
    assert where_sql(first, COLUMNS)[0] == where_sql(again, COLUMNS)[0]


@pytest.mark.parametrize(
    ("expression", "equalities"),
    [
        (Order.id == 7, {"id": {7}}),
        (Order.id.in_([7, 8]), {"id": {7, 8}}),
        (sa.and_(Order.id.in_([7, 8]), Order.id.in_([8, 9]), Order.paid), {"id": {8}, "paid": {True}}),
        (sa.and_(Order.id == 7, Order.id == 8), {"id": set()}),
        (sa.or_(Order.id == 7, Order.id == 8), {"id": {7, 8}}),
        (sa.or_(Order.id == 7, sa.and_(Order.id == 8, Order.paid)), {"id": {7, 8}}),
        (sa.or_(Order.id == 7, Order.paid), {}),
        (Order.id != 7, {}),
        (~Order.id.in_([7]), {}),
        (Order.id > 7, {}),
        (Order.id.in_([7, None]), {"id": {7}}),
        (sa.or_(sa.and_(Order.id == 7, Order.big == 1), sa.and_(Order.big == 2, Order.id == 8)),
         {"id": {7, 8}, "big": {1, 2}}),
        (Order.key == KEY, {"key": {str(KEY)}}),
        (sa.true(), {}),
    ],
    ids=str,
)  # fmt: skip
def test_equalities(expression: Any, equalities: dict[str, set[Any]]) -> None:
    assert dict(condition(expression, COLUMNS).equalities) == equalities


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("total", [1, 1.0, Decimal("1.00")]),
        ("total", ["NaN", "NaN"]),
        ("total", ["Infinity", "Infinity"]),
        ("ratio", [1, 1.0]),
        ("ratio", [0, -0.0]),
        ("weight", [16777217, 16777216.0]),
        ("cut", ["ab", "ab  "]),
        ("at", ["2026-01-31T12:00:00+00:00", "2026-01-31T14:00:00.000+02:00"]),
    ],
)
def test_equal_values_have_one_key(name: str, same: list[Any]) -> None:
    assert len({index_key(COLUMNS[name], value) for value in same}) == 1


def test_both() -> None:
    one, other = condition(Order.id == 7, COLUMNS), condition(sa.and_(Order.paid), COLUMNS)
    joined = both(None, one, other)
    assert joined is not None
    assert joined.holds(ROW)
    assert not joined.holds({**ROW, "paid": None})
    assert joined.columns == {"id", "paid"}
    assert joined.equalities == {"id": {7}, "paid": {True}}
    assert both() is None
    assert both(None) is None
    assert both(one, None) is one


# --- SQL


def test_where_sql() -> None:
    odd = Column('a%"b', 'public."sta%tus"', ("x", 'y,"\\'))
    one = condition(sa.and_(sa.column('a%"b').in_(["x", 'y,"\\']), Order.id.is_(None)), {**COLUMNS, odd.name: odd})
    assert where_sql(one, {**COLUMNS, odd.name: odd}) == (
        '("a%%""b"::public."sta%%tus" OPERATOR(pg_catalog.=) ANY (%(value_0)s) AND "id" IS NULL)',
        {"value_0": '{"x","y,\\"\\\\"}'},
    )


def test_where_sql_of_an_altered_table() -> None:
    one = condition(Order.id == 7, COLUMNS)
    for columns in ({}, {"id": Column("id", "text", table=TABLE)}):
        with pytest.raises(UnsupportedCondition, match="the table was altered"):
            where_sql(one, columns)
