"""The manual way of flask-sqlalchemy-pgevents: every behaviour that the tests of that package describe."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest

from pgevents_push import PGEvents
from pgevents_push.errors import TargetError
from tests.fixtures.postgres import Database
from tests.fixtures.ring import pruned, write_old
from tests.fixtures.shop import Shop

TRIGGERS = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = '!pgevents_row' ORDER BY 1"


class Calls:
    """A callback that notes what it was called with."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, Any, str]] = []

    def __call__(self, event_id: uuid.UUID, row_id: Any, identifier: str) -> None:
        self.made.append((event_id, row_id, identifier))

    @property
    def seen(self) -> list[tuple[Any, str]]:
        return [(row_id, identifier) for _, row_id, identifier in self.made]


@pytest.fixture
def ready(shop: Shop) -> Shop:
    """A Shop with its tables, not registered."""
    shop.create_all()
    return shop


def installed(database: Database) -> list[str]:
    return [name for (name,) in database.execute(TRIGGERS)]


# --- Registering


@pytest.mark.parametrize(
    "identifiers", [set(), [], "insert", {"upsert"}, {"insert", "UPDATE"}, {"truncate"}, {"insert", 7}]
)
@pytest.mark.parametrize("registered", [True, False])
def test_no_identifiers_or_wrong_ones_are_refused_and_nothing_is_registered(
    identifiers: Any, registered: bool, ready: Shop, database: Database
) -> None:
    if registered:
        ready.register()
    with pytest.raises(ValueError, match="identifier") as caught:
        ready.events.listen(ready.Order, identifiers, Calls())
    assert isinstance(caught.value, TargetError)
    assert installed(database) == []
    assert ready.events.declarations.targets("public") == []
    ready.events.listen(ready.Ticket, {"insert"}, Calls())
    if not registered:
        ready.register()
    assert installed(database) == ['"Tickets"']


def test_what_is_no_table_is_refused(ready: Shop) -> None:
    with pytest.raises(ValueError, match="not a mapped class"):
        ready.events.listen(object, {"insert"}, Calls())


def test_listen_before_init_is_deferred_until_init_app(ready: Shop, database: Database) -> None:
    ready.events.listen(ready.Order, {"insert"}, Calls())
    assert installed(database) == []
    ready.events.init_app(ready.app)
    assert installed(database) == ["orders"]


def test_listen_after_init_installs_at_once(ready: Shop, database: Database) -> None:
    events = PGEvents(ready.app)
    assert installed(database) == []
    events.listen(ready.Order, {"insert"}, Calls())
    assert installed(database) == ["orders"]


def test_the_decorator_does_the_same_and_returns_the_function(ready: Shop, database: Database) -> None:
    ready.register()
    calls = Calls()
    assert ready.events.listens_for(ready.Order, {"insert"})(calls) is calls
    assert installed(database) == ["orders"]


def test_several_callbacks_for_one_table_and_several_tables(ready: Shop, database: Database) -> None:
    ready.events.listen(ready.Order, {"insert"}, Calls())
    ready.events.listen(ready.Order, {"insert", "update"}, Calls())
    ready.register()
    ready.events.listen(ready.Order, {"delete"}, Calls())
    ready.events.listen(ready.Ticket, {"insert"}, Calls())
    assert installed(database) == ['"Tickets"', "orders"]


def test_two_schemas_with_the_same_name_of_a_table(ready: Shop, database: Database) -> None:
    database.execute("CREATE SCHEMA archive")
    database.execute("CREATE TABLE archive.orders (id int PRIMARY KEY)")
    here, there = Calls(), Calls()
    ready.events.listen(ready.Order, {"insert"}, here)
    ready.register()
    ready.events.listen("archive.orders", {"insert"}, there)
    assert installed(database) == ["archive.orders", "orders"]
    database.execute("INSERT INTO archive.orders VALUES (1)")
    database.execute("INSERT INTO orders (id) VALUES (2)")
    ready.events.handle_events()
    assert (here.seen, there.seen) == ([(2, "INSERT")], [(1, "INSERT")])


# --- handle_events


def test_handle_events_before_init_says_so() -> None:
    with pytest.raises(RuntimeError, match="not initialized"):
        PGEvents().handle_events()


def test_without_triggers_it_does_nothing(ready: Shop, database: Database) -> None:
    ready.register()
    ready.events.handle_events()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    ready.events.handle_events()


def listening(shop: Shop, *identifiers: str) -> Calls:
    calls = Calls()
    shop.events.listen(shop.Order, set(identifiers or ("insert",)), calls)
    if "pgevents" not in shop.app.extensions:
        shop.register()
    return calls


def test_no_events_no_call(ready: Shop) -> None:
    calls = listening(ready)
    ready.events.handle_events()
    ready.events.handle_events(0.01)
    assert calls.made == []


def test_one_event_is_one_call_with_uuid_key_and_identifier(ready: Shop, database: Database) -> None:
    calls = listening(ready)
    database.execute("INSERT INTO orders (id) VALUES (7)")
    ready.events.handle_events()
    [(event_id, row_id, identifier)] = calls.made
    assert isinstance(event_id, uuid.UUID)
    assert (row_id, identifier) == (7, "INSERT")
    ready.events.handle_events()
    assert len(calls.made) == 1


def test_many_events_of_all_kinds_in_order(ready: Shop, database: Database) -> None:
    calls = listening(ready, "insert", "update", "delete")
    database.execute("INSERT INTO orders (id) VALUES (1), (2)")
    database.execute("UPDATE orders SET status = 'sent' WHERE id = 2")
    database.execute("DELETE FROM orders WHERE id = 1")
    ready.events.handle_events()
    assert calls.seen == [(1, "INSERT"), (2, "INSERT"), (2, "UPDATE"), (1, "DELETE")]
    assert len({event_id for event_id, _, _ in calls.made}) == 4


def test_more_events_than_one_batch_holds(ready: Shop, database: Database) -> None:
    calls = listening(ready)
    database.execute("INSERT INTO orders (id) SELECT generate_series(1, 2500)")
    ready.events.handle_events()
    assert [row_id for row_id, _ in calls.seen] == list(range(1, 2501))


def test_insert_once_and_upsert_twice(ready: Shop, database: Database) -> None:
    insert, upsert = listening(ready), listening(ready, "insert", "update")
    database.execute("INSERT INTO orders (id) VALUES (1)")
    ready.events.handle_events()
    database.execute("INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET status = 'again'")
    ready.events.handle_events()
    assert insert.seen == [(1, "INSERT")]
    assert upsert.seen == [(1, "INSERT"), (1, "UPDATE")]


def test_several_tables_each_its_own(ready: Shop, database: Database) -> None:
    orders, tickets, key = listening(ready), Calls(), uuid.uuid4()
    ready.events.listen(ready.Ticket, {"insert"}, tickets)
    database.execute("INSERT INTO orders (id) VALUES (1)")
    database.execute('INSERT INTO "Tickets" (id) VALUES (%s)', str(key))
    ready.events.handle_events()
    assert (orders.seen, tickets.seen) == ([(1, "INSERT")], [(str(key), "INSERT")])


def test_a_composite_key_comes_whole(ready: Shop, database: Database) -> None:
    calls = Calls()
    ready.events.listen(ready.Line, {"insert"}, calls)
    ready.register()
    database.execute("INSERT INTO lines VALUES (1, '2026-01-02', 'a')")
    ready.events.handle_events()
    assert calls.seen == [({"order_id": 1, "day": "2026-01-02", "Code": "a"}, "INSERT")]


def test_an_exception_of_a_callback_is_passed_on_and_the_next_call_goes_on(ready: Shop, database: Database) -> None:
    after = Calls()

    def fail(event_id: uuid.UUID, row_id: Any, identifier: str) -> None:
        if row_id == 1:
            raise ZeroDivisionError("mine")
        after(event_id, row_id, identifier)

    ready.events.listen(ready.Order, {"insert"}, fail)
    ready.register()
    database.execute("INSERT INTO orders (id) VALUES (1), (2), (3)")
    with pytest.raises(ZeroDivisionError, match="mine"):
        ready.events.handle_events()
    assert after.made == []
    ready.events.handle_events()
    assert after.seen == [(2, "INSERT"), (3, "INSERT")]


def test_it_waits_for_its_timeout_and_no_longer_than_needed(ready: Shop, database: Database) -> None:
    calls = listening(ready)
    ready.events.handle_events()
    timer = threading.Timer(0.05, lambda: database.execute("INSERT INTO orders (id) VALUES (1)"))
    timer.start()
    ready.events.handle_events(timeout=30)
    timer.join()
    assert calls.seen == [(1, "INSERT")]


def test_a_killed_connection_costs_no_event(ready: Shop, database: Database) -> None:
    calls = listening(ready)
    ready.events.handle_events()
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'pgevents_push' AND datname = %s",
        database.name,
    )
    database.execute("INSERT INTO orders (id) VALUES (1)")
    with pytest.raises(Exception, match=r"terminat|closed"):
        ready.events.handle_events()
    ready.events.handle_events()
    assert calls.seen == [(1, "INSERT")]


def test_teardown_closes_the_connection_and_keeps_the_position(ready: Shop, database: Database) -> None:
    calls = listening(ready)
    ready.events.handle_events()
    ready.events.teardown()
    ready.events.teardown()
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s"
    database.execute("INSERT INTO orders (id) VALUES (1)")
    ready.events.handle_events()
    assert calls.seen == [(1, "INSERT")]
    ready.events.teardown()
    for _ in range(500):
        if database.execute(count, database.name) == [(0,)]:
            break
    assert database.execute(count, database.name) == [(0,)]


def test_the_background_listener_does_not_call_these_functions(ready: Shop, database: Database) -> None:
    calls = listening(ready)
    ready.events.on_insert(ready.Order)(ready.hear())
    ready.start()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    ready.until("insert 1")
    assert calls.made == []
    ready.events.handle_events()
    assert calls.seen == [(1, "INSERT")]


# --- What cannot be told any more


def test_who_comes_too_late_is_told(ready: Shop, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    calls = Calls()
    ready.events.listen(ready.Order, {"insert"}, calls)
    ready.register()
    ready.events.handle_events(0)
    database.execute("UPDATE pgevents.retention SET seconds = 0.001, since = '2020-01-01'")
    write_old(database, 4)
    assert [p.emptied for p in pruned(database)] == [True]
    ready.events.handle_events(0)
    assert "handle_events may have missed changes" in caplog.text
    caplog.clear()
    database.execute("INSERT INTO orders (id) VALUES (1)")
    ready.events.handle_events(0)
    assert calls.seen == [(1, "INSERT")]
    assert not caplog.text


def test_a_database_that_was_restored_is_told_and_gone_on_with(
    ready: Shop, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls()
    ready.events.listen(ready.Order, {"insert"}, calls)
    ready.register()
    ready.events.handle_events(0)
    database.execute("UPDATE pgevents.installation SET id = gen_random_uuid()")
    ready.events._pump.close()
    ready.events.handle_events(0)
    assert "another database, or one that was restored" in caplog.text
    database.execute("INSERT INTO orders (id) VALUES (1)")
    ready.events.handle_events(0)
    assert calls.seen == [(1, "INSERT")]
