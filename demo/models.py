"""The tables: orders, and what the handlers saw."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Float, Identity, Numeric, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

STATUSES = ("new", "paid", "shipped")
PRICES = {"Compass": Decimal("24.00"), "Lantern": Decimal("29.00"), "Rope": Decimal("12.50"), "Map": Decimal("9.90")}


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Order(db.Model):  # type: ignore[name-defined, misc]  # Flask-SQLAlchemy builds this class at run time
    """Every column that may be left out has a default in the database: psql knows nothing of Python."""

    __tablename__ = "orders"
    __table_args__ = (CheckConstraint(f"status IN {STATUSES}", name="orders_status"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]
    quantity: Mapped[int] = mapped_column(server_default=text("1"))
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default=text("0"))
    status: Mapped[str] = mapped_column(server_default=text("'new'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class HandlerLog(db.Model):  # type: ignore[name-defined, misc]
    """One line per handler call, in which process it ran, and how long after the change."""

    __tablename__ = "handler_log"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    pid: Mapped[int]
    handler: Mapped[str]
    event_id: Mapped[str]
    change: Mapped[str]
    delay_ms: Mapped[float] = mapped_column(Float)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
