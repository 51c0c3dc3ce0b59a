"""SQLAlchemy's event functions work on the targets of a PGEvents."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from pgevents_push import PGEvents
from pgevents_push.errors import TargetError
from pgevents_push.event import ChangeEvent, TableName
from pgevents_push.testing import make_event

METADATA = sa.MetaData()
ORDERS = sa.Table("orders", METADATA, sa.Column("id", sa.Integer, primary_key=True))


def test_listen_contains_and_remove() -> None:
    events = PGEvents()
    heard: list[ChangeEvent] = []

    def hear(event: ChangeEvent) -> None:
        heard.append(event)

    sa.event.listen(events.target(ORDERS), "after_insert", hear)
    assert sa.event.contains(events.target(ORDERS), "after_insert", hear)
    assert not sa.event.contains(events.target(ORDERS), "after_update", hear)
    [handler] = events.declarations.registered("public")
    assert handler.types == frozenset({"insert"})
    assert handler.target.name == TableName("public", "orders")
    handler.function(event := make_event(ORDERS))
    assert heard == [event]
    sa.event.remove(events.target(ORDERS), "after_insert", hear)
    assert not sa.event.contains(events.target(ORDERS), "after_insert", hear)
    assert events.declarations.registered("public") == []


def test_the_decorator_for_each_kind_of_change() -> None:
    events = PGEvents()
    for name in ("after_insert", "after_update", "after_delete", "after_truncate"):
        sa.event.listens_for(events.target("shop.orders"), name)(lambda event: None)
    found = {next(iter(h.types)): h.target.name for h in events.declarations.registered("public")}
    assert found == dict.fromkeys(("insert", "update", "delete", "truncate"), TableName("shop", "orders"))


def test_a_table_has_one_target_for_each_instance() -> None:
    one, other = PGEvents(), PGEvents()
    assert one.target(ORDERS) is one.target(ORDERS)
    assert one.target(ORDERS) is not other.target(ORDERS)
    assert PGEvents.target(ORDERS) is PGEvents.target(ORDERS)
    sa.event.listen(one.target(ORDERS), "after_insert", print)
    assert other.declarations.registered("public") == []


def test_a_target_is_captured() -> None:
    events = PGEvents()
    events.target("shop.orders")
    assert [t.name for t in events.declarations.targets("public")] == [TableName("shop", "orders")]


def test_an_event_that_does_not_exist_is_refused() -> None:
    with pytest.raises(sa.exc.InvalidRequestError):
        sa.event.listen(PGEvents().target(ORDERS), "after_drop", print)


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(TargetError):
        PGEvents().target(7)
