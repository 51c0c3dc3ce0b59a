"""SQLAlchemy's own registrar, against a real PostgreSQL."""

from __future__ import annotations

import sqlalchemy as sa

from pgevents_push import ChangeEvent, PGEvents
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import Shop


def test_listeners_come_and_go_while_it_runs(shop: Shop, database: Database) -> None:
    target, hear, late = shop.events.target(shop.Order), shop.hear(), shop.hear("late: ")
    for name in ("after_insert", "after_update", "after_delete", "after_truncate"):
        sa.event.listen(target, name, hear)
    shop.up()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    database.execute("UPDATE orders SET status = 'sent'")
    database.execute("DELETE FROM orders")
    database.execute("TRUNCATE orders")
    shop.until("insert 1", "update 1", "delete 1", "truncate ")
    sa.event.remove(target, "after_insert", hear)
    sa.event.listen(target, "after_insert", late)
    assert not sa.event.contains(target, "after_insert", hear)
    shop.heard.clear()
    database.execute("INSERT INTO orders (id) VALUES (2)")
    shop.until("late: insert 2")


def test_the_decorator_gets_the_event_in_an_app_context(shop: Shop, database: Database) -> None:
    seen: list[object] = []

    @sa.event.listens_for(shop.events.target(shop.Order), "after_insert")
    def hear(event: ChangeEvent) -> None:
        seen.append(shop.db.session.get_one(shop.Order, event.pk["id"]).status)
        seen.append(event.load().id)

    shop.up()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    wait_until(lambda: seen == ["open", 1])


def test_the_class_itself_stands_for_the_default_instance() -> None:
    target = PGEvents.target("registrar_live")
    sa.event.listen(target, "after_insert", print)
    assert sa.event.contains(PGEvents.target("registrar_live"), "after_insert", print)
    sa.event.remove(target, "after_insert", print)
    assert not sa.event.contains(target, "after_insert", print)
