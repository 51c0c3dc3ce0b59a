"""What the application calls a table becomes the exact name that PostgreSQL knows."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry

from pgevents_push.capture import Target, literal, quote, quoted, resolve
from pgevents_push.errors import TargetError
from pgevents_push.event import TableName


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column("Order State")


class Shipped(Order):
    """Single-table inheritance."""


class Invoice(Order):
    """Joined inheritance: a table of its own."""

    __tablename__ = "Invoices"
    __table_args__ = {"schema": "Billing"}  # noqa: RUF012
    number: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)


class Abstract(Base):
    __abstract__ = True


def test_a_model_has_the_names_of_its_columns_in_the_database() -> None:
    assert resolve(Order) == Target(TableName("public", "orders"), Order, ("id", "Order State"), ("id",))
    assert resolve(Order, "shop").name == TableName("shop", "orders")


def test_inherited_models() -> None:
    assert resolve(Shipped).name == TableName("public", "orders")
    assert resolve(Invoice) == Target(TableName("Billing", "Invoices"), Invoice, ("number",), ("number",))


def test_imperative_mapping_and_metadata_schema() -> None:
    table = Table("Things", MetaData(schema="Inner"), Column("key", String, primary_key=True))
    thing = type("Thing", (), {})
    registry().map_imperatively(thing, table)
    assert resolve(thing) == Target(TableName("Inner", "Things"), thing, ("key",), ("key",))
    assert resolve(table) == Target(TableName("Inner", "Things"), None, ("key",), ("key",))


def test_strings_and_names() -> None:
    assert resolve("orders", "shop") == Target(TableName("shop", "orders"))
    assert resolve('"a.b".C') == Target(TableName("a.b", "C"))
    assert resolve(TableName("s", "t")) == Target(TableName("s", "t"))


@pytest.mark.parametrize("given", [1, None, Order(id=1), Base, Abstract, dict, select(Order), "", "a.b.c"])
def test_anything_else_is_refused_by_name(given: object) -> None:
    with pytest.raises(TargetError, match=r"not a (table|mapped class)"):
        resolve(given)


def test_a_class_that_is_mapped_to_a_query_is_refused() -> None:
    metadata = MetaData()
    left, right = (Table(name, metadata, Column("id", Integer, primary_key=True)) for name in "ab")
    both = type("Both", (), {})
    registry().map_imperatively(
        both, left.join(right, left.c.id == right.c.id), properties={"id": [left.c.id, right.c.id]}
    )
    with pytest.raises(TargetError, match="mapped to a query"):
        resolve(both)


def test_names_and_texts_are_written_for_sql() -> None:
    assert quoted(TableName('a"b', "C%")) == '"a""b"."C%"'
    assert literal("it's") == "'it''s'"
    assert literal("50% $1 \\") == r"E'50\x25 \x241 \\'"


@pytest.mark.parametrize("text", ["", "a\0b", "\ud800"])
def test_what_postgresql_cannot_hold_is_refused(text: str) -> None:
    for write in (quote, literal):
        with pytest.raises(TargetError, match="is no name"):
            write(text)
