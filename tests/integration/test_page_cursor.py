"""A page that is rendered with rows goes live from exactly those: cursor() names what its transaction saw."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Session

from pgevents_push.errors import ConfigurationError
from tests.fixtures.postgres import Database
from tests.fixtures.shop import Shop
from tests.fixtures.web import Site


def render(shop: Shop) -> tuple[list[int], str]:
    """What a view does: the keys of the rows, and the cursor."""
    with shop.app.app_context():
        session: Session = shop.db.session()
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        rows = list(session.scalars(sa.select(shop.Order.id).order_by(shop.Order.id)))
        return rows, shop.events.cursor(session)


def test_the_stream_goes_on_after_the_rows_that_the_page_shows(
    shop: Shop, serve: Callable[[Flask], Site], database: Database
) -> None:
    shop.create_all()
    shop.events.expose(shop.Order, public=True)
    shop.register()
    site = serve(shop.app)
    shop.start()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    late = database.connect(autocommit=False)
    with late.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id) VALUES (2)")  # running while the page is made, with an older xid
        database.execute("INSERT INTO orders (id) VALUES (3)")
        rows, position = render(shop)
        late.commit()
    database.execute("INSERT INTO orders (id) VALUES (4)")
    stream = site.stream(f"table=orders&lastEventId={position}")
    assert stream.next("ready").data["resumed"] is True
    assert rows == [1, 3]
    assert [frame.data["row"]["id"] for frame in stream.changes(2)] == [2, 4]


def test_a_connection_that_sees_another_moment_with_each_statement_has_no_cursor(shop: Shop) -> None:
    shop.up()
    with shop.app.app_context(), pytest.raises(ConfigurationError, match="REPEATABLE READ"):
        shop.events.cursor(shop.db.session())


def test_a_plain_connection_will_do(shop: Shop) -> None:
    shop.up()
    with shop.app.app_context(), shop.db.engine.connect() as connection:
        serializable = connection.execution_options(isolation_level="SERIALIZABLE")
        assert shop.events.cursor(serializable).count("~") == 1
