"""A table that loses its trigger while the app runs is captured again, and those who listened are told."""

from __future__ import annotations

import logging

import pytest

from pgevents_push.event import TableName
from pgevents_push.extension import captured
from pgevents_push.hub import View
from pgevents_push.testing import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.fixtures.shop import MakeShop, Shop


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(captured, "LONGEST_LOOK_SECONDS", 0.2)


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE orders; CREATE TABLE orders (id int PRIMARY KEY)",
        "ALTER TABLE orders RENAME TO orders_old; CREATE TABLE orders (id int PRIMARY KEY)",
        'ALTER TABLE orders DISABLE TRIGGER "!pgevents_row"',
    ],
)
def test_a_table_that_a_migration_made_anew(
    shop: Shop, database: Database, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    runtime = shop.runtime
    view = View(runtime.tables[0], frozenset({"insert"}), None, None, lambda event, view: event.id.encode())
    mailbox = runtime.hub.connect(1000)
    assert runtime.hub.subscribe(mailbox, [view], 5) is not None
    database.execute(change)
    wait_until(lambda: mailbox.closed)
    assert mailbox.closed == "lost"
    assert "changes may have been missed: public.orders is" in caplog.text
    wait_until(lambda: runtime.installer().status(runtime.tables).complete)
    database.execute("INSERT INTO orders (id) VALUES (7)")
    shop.until("insert 7")
    new = runtime.hub.connect(1000)
    assert runtime.hub.subscribe(new, [view], 5) is not None


def test_a_table_that_may_not_be_touched_is_named_once(
    make_shop: MakeShop, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with role(database, "app") as name:
        database.execute(f'GRANT CREATE ON DATABASE {database.name} TO "{name}"')
        make_shop().create_all()
        shop = make_shop(PGEVENTS_DATABASE_URL=database.url.replace("//postgres@", f"//{name}@"))
        shop.events.on_insert(shop.Order)(shop.hear())
        shop.register()
        shop.events.start(shop.app)
        looks: list[int] = []
        wait_until(lambda: "not captured: public.orders is missing" in caplog.text, 10)
        original = shop.runtime.tables
        running = shop.runtime._alive()
        assert running is not None

        def tables() -> list[TableName]:
            looks.append(1)
            return original

        running.captured._tables = tables
        wait_until(lambda: len(looks) > 4, 10)
        shop.runtime.stop()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("captured")]
    assert len(said) == 2, said
    assert "GRANT TRIGGER ON" in said[0]
