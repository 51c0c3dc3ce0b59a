"""What the tests of apps use: events without PostgreSQL that are like real ones, and handlers called by hand."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pgevents_push import PGEvents
from pgevents_push.errors import ConfigurationError, NotRegisteredError
from pgevents_push.testing import call_handlers, make_event


class Base(DeclarativeBase):
    pass


class Line(Base):
    __tablename__ = "lines"
    order_id: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column("Position", primary_key=True)
    text: Mapped[str]


@pytest.mark.parametrize("target", [Line, Line.__table__])
def test_the_key_is_that_of_the_model(target: object) -> None:
    event = make_event(target, "insert", row={"order_id": 7, "Position": 2, "text": "a lamp"})
    assert event.pk == {"order_id": 7, "Position": 2}
    moved = make_event(target, "update", row={"order_id": 7, "Position": 3, "text": ""}, old={"Position": 2})
    assert (moved.pk, moved.changed) == ({"order_id": 7, "Position": 3}, ("Position",))
    assert make_event(target, "delete", old={"order_id": 7, "Position": 2}).pk == {"order_id": 7, "Position": 2}
    assert make_event(target, pk={"order_id": 1}).pk == {"order_id": 1}


def test_the_key_of_a_name_is_its_id() -> None:
    assert make_event("lines", row={"id": 7, "whatever": 1}).pk == {"id": 7}
    assert make_event("lines", row={"number": 7}).pk == {}


@pytest.mark.parametrize("given", ["row", "old", "pk"])
def test_a_misspelt_column_is_an_error(given: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"public\.lines has no column txet\. It has: order_id, Position, text"
    ):
        make_event(Line, "update", **{given: {"txet": "a lamp"}})


def test_a_misspelt_type_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="insert, update, delete, truncate, not 'inserted'"):
        make_event(Line, "inserted")  # type: ignore[arg-type]


def test_values_look_as_in_a_real_event() -> None:
    row = make_event(
        "lines",
        row={
            "price": Decimal("9.90"),
            "day": date(2026, 11, 23),
            "at": datetime(2026, 11, 23, 14, tzinfo=timezone.utc),
            "uuid": UUID(int=7),
        },
    ).row
    assert row == {
        "price": 9.9,
        "day": "2026-11-23",
        "at": "2026-11-23T14:00:00+00:00",
        "uuid": "00000000-0000-0000-0000-000000000007",
    }


def test_handlers_are_called_here_and_now() -> None:
    app, events, seen = Flask("shop"), PGEvents(), list[object]()
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://nobody@192.0.2.1:1/none"
    with pytest.raises(NotRegisteredError, match=r"app\.register_blueprint"):
        call_handlers(app, make_event(Line))
    events.init_app(app)
    events.on_insert(Line)(seen.append)
    events.on_insert(Line, when=lambda event: False)(seen.append)
    events.on_delete(Line)(seen.append)
    assert call_handlers(app, make_event(Line, pk={"order_id": 1})) == 1
    assert len(seen) == 1


def test_what_a_handler_raises_is_raised() -> None:
    app, events = Flask("shop"), PGEvents()
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://nobody@192.0.2.1:1/none"
    events.init_app(app)
    events.on_insert(sa.Table("orders", sa.MetaData()))(lambda event: event.pk["missing"])
    with pytest.raises(KeyError, match="missing"):
        call_handlers(app, make_event("orders"))
