"""A table that loses its trigger while the app runs is captured again, and those who listened are told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import pytest

from pgevents_push.capture import Status
from pgevents_push.cli import pgevents
from pgevents_push.event import TableName
from pgevents_push.extension import captured
from pgevents_push.hub import View
from tests.fixtures.patience import wait_until
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
    view = View(runtime.tables[0], frozenset({"insert"}), None, None, lambda event, view: b"frame")
    mailbox = runtime.hub.connect(1000)
    assert runtime.hub.subscribe(mailbox, [view], 5) is not None
    database.execute(change)
    wait_until(lambda: mailbox.closed)
    assert mailbox.closed == "lost"
    wait_until(lambda: "changes may have been missed: public.orders is" in caplog.text)
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
        wait_until(lambda: "not captured: public.orders is missing" in caplog.text)
        original = shop.runtime.tables
        running = shop.runtime._alive()
        assert running is not None

        def tables() -> list[TableName]:
            looks.append(1)
            return original

        running.captured._tables = tables
        wait_until(lambda: len(looks) > 4)
        shop.runtime.stop()
    said = [record.getMessage() for record in caplog.records if record.name.endswith("captured")]
    assert len(said) == 2, said
    assert "GRANT TRIGGER ON" in said[0]


def test_handlers_that_may_have_missed_something_are_named_in_every_process(
    shop: Shop, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process saw that the trigger was gone, and made it again: here only the log tells. No handler gets it."""
    shop.events.on_change(shop.Order)(shop.hear())
    shop.up()
    database.execute("SELECT pgevents.begin_v1('public', 'orders')")
    wait_until(lambda: "changes of public.orders may have been missed" in caplog.text)
    database.execute("INSERT INTO orders (id) VALUES (7)")
    shop.until("insert 7")
    assert shop.heard == ["insert 7"]


def test_who_was_stopped_installs_nothing_any_more(shop: Shop) -> None:
    """A look that is under way is waited for: what comes after `stop`, an uninstall for example, has the last word."""
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    running = shop.runtime._alive()
    assert running is not None
    installer, entered, looks = running.captured._installer, threading.Event(), list[str]()
    status = installer.status

    def slow_status(tables: Sequence[TableName]) -> Status:
        entered.set()
        time.sleep(0.3)
        looks.append("looked")
        return status(tables)

    installer.status = slow_status  # type: ignore[method-assign]
    assert entered.wait(10)
    shop.runtime.stop()
    before = len(looks)
    assert before
    running.captured.look()
    time.sleep(0.5)
    assert len(looks) == before


def test_a_table_that_is_no_longer_fit_for_its_mode_is_noticed(
    make_shop: MakeShop, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """It was captured by statements from its creation on; those who listened are told when that is no longer safe."""
    shop = make_shop()
    shop.events.on_change(shop.Order, capture="statement")(shop.hear())
    shop.register().create_all()
    shop.start()
    runtime = shop.runtime
    assert runtime.installer().status(runtime.tables).complete
    database.execute("INSERT INTO orders (id) VALUES (1), (2); UPDATE orders SET total = id; DELETE FROM orders")
    shop.until("insert 1", "insert 2", "update 1", "update 2", "delete 1", "delete 2")
    view = View(runtime.tables[0], frozenset({"insert"}), None, None, lambda event, view: b"frame")
    mailbox = runtime.hub.connect(1000)
    assert runtime.hub.subscribe(mailbox, [view], 5) is not None
    database.execute("CREATE TABLE heir () INHERITS (orders)")
    wait_until(lambda: mailbox.closed)
    assert mailbox.closed == "lost"
    wait_until(lambda: "public.orders: others inherit from it" in caplog.text)
    shown = shop.app.test_cli_runner().invoke(pgevents, ["status"])
    assert (shown.exit_code, "public.orders    refused: others inherit from it" in shown.output) == (1, True)
    database.execute("DROP TABLE heir")
    wait_until(lambda: runtime.report()["captured"] == 1)


def test_another_mode_is_installed_by_the_app_that_declares_it(make_shop: MakeShop, database: Database) -> None:
    for number, mode in enumerate(("row", "statement", "key")):
        shop = make_shop()
        shop.events.expose(shop.Order, public=True)
        shop.events.on_insert(shop.Order)(shop.hear())
        shop.events.on_change(shop.Order, types=["delete"], capture=mode)(print)  # type: ignore[arg-type]
        shop.up()
        wait_until(lambda: shop.runtime.installer().status(shop.runtime.tables).complete)  # noqa: B023
        database.execute(f"INSERT INTO orders (id) VALUES ({number})")
        shop.until(f"insert {number}")
        found = database.execute("SELECT truncated, new_row IS NULL FROM pgevents.log ORDER BY id DESC LIMIT 1")
        assert found == [(mode == "key", mode == "key")]
        printed = shop.app.test_cli_runner().invoke(pgevents, ["sql"]).output
        assert (f"capture_v1_{mode}_" in printed) is (mode != "row")
        shop.close()
    assert database.execute("SELECT count(*) FROM pgevents.log WHERE type = 'g'") == [(0,)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("ALTER TABLE before RENAME TO orders", "missing"),
        ('ALTER TABLE before RENAME TO orders; ALTER TABLE orders DISABLE TRIGGER "!pgevents_row"', "disabled"),
        ("ALTER TABLE before RENAME TO orders; ALTER TABLE orders ADD more int", "missing"),
    ],
    ids=["renamed", "renamed and disabled", "renamed and altered"],
)
def test_a_table_that_writes_under_another_name_is_not_captured(
    make_shop: MakeShop, database: Database, change: str, word: str
) -> None:
    """Who streams it would be told that it is ready, and hear nothing."""
    shop = make_shop(PGEVENTS_INSTALL="verify")
    database.execute("CREATE TABLE before (id int PRIMARY KEY)")
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.register()
    shop.runtime.installer().install([TableName("public", "before")])
    database.execute(change)
    shop.start()
    orders = TableName("public", "orders")
    assert shop.runtime.installer().status([orders]).tables == {orders: word}
    assert orders not in (shop.runtime.hub.captured or ())
    shop.runtime.installer().install([orders])
    wait_until(lambda: orders in (shop.runtime.hub.captured or ()))
    database.execute("INSERT INTO orders (id) VALUES (7)")
    shop.until("insert 7")


def test_a_trigger_that_is_disabled_and_outdated_captures_nothing(make_shop: MakeShop, database: Database) -> None:
    shop = make_shop(PGEVENTS_INSTALL="verify")
    shop.create_all()
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.register()
    shop.runtime.installer().install(shop.runtime.tables)
    database.execute('ALTER TABLE orders DISABLE TRIGGER "!pgevents_row"; ALTER TABLE orders ADD more int')
    shop.start()
    assert shop.runtime.hub.captured == frozenset()
