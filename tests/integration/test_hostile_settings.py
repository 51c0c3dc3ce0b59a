"""Settings that sessions, roles, drivers and the environment bring along change nothing for writers or the listener."""

from __future__ import annotations

import psycopg2.extras
import pytest
from psycopg2.errors import InsufficientPrivilege

from tests.fixtures.capture import install, installer, logged
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.fixtures.shop import MakeShop, Shop


@pytest.mark.parametrize(
    "setting",
    [
        "standard_conforming_strings = off",
        "plpgsql.extra_errors = 'all'",
        "plpgsql.variable_conflict = use_column",
        "plpgsql.variable_conflict = use_variable",
        "array_nulls = off",
        "quote_all_identifiers = on",
        "transform_null_equals = on",
        "max_stack_depth = 100",
        "client_encoding = 'LATIN1'",
        "pgevents.rang = 'junk'",
        "pgevents.actor = '{'",
    ],
)
def test_a_writer_with_any_settings_can_write(database: Database, setting: str) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    install(database, "t")
    # A session of its own, so that the function is compiled with the setting.
    with database.connect().cursor() as cursor:
        cursor.execute("LOAD 'plpgsql'")
        cursor.execute(f"SET {setting}")
        cursor.execute("INSERT INTO t VALUES (1, chr(92) || 'u0041')")
        cursor.execute("UPDATE t SET note = repeat('long', 3000)")
        cursor.execute("DELETE FROM t")
    assert [(event.type, event.pk) for event in logged(database)] == [
        ("i", {"id": 1}),
        ("u", {"id": 1}),
        ("d", {"id": 1}),
    ]


def _heard_with(shop: Shop, database: Database) -> None:
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    database.execute("INSERT INTO orders (id, status) VALUES (1, chr(8364))")
    shop.until("insert 1")
    assert shop.runtime.status == "listening"


@pytest.mark.parametrize(
    "arguments",
    [
        {"cursor_factory": psycopg2.extras.DictCursor},
        {"client_encoding": "latin1"},
        {"options": "-c default_transaction_isolation=serializable -c default_transaction_deferrable=on"},
    ],
)
def test_what_the_app_gives_its_own_connections_does_not_disturb_ours(
    make_shop: MakeShop, database: Database, arguments: dict[str, object]
) -> None:
    _heard_with(make_shop(SQLALCHEMY_ENGINE_OPTIONS={"connect_args": arguments}), database)


def test_the_client_encoding_of_the_environment_does_not_count(
    monkeypatch: pytest.MonkeyPatch, shop: Shop, database: Database
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    _heard_with(shop, database)


def test_options_of_another_driver_are_not_ours(make_shop: MakeShop) -> None:
    # The engine of psycopg would take them, but it is not installed here; libpq does not know them.
    options = {"connect_args": {"prepare_threshold": 0, "connect_timeout": 7}}
    shop = make_shop(SQLALCHEMY_ENGINE_OPTIONS=options).register()
    assert "prepare_threshold" not in shop.runtime.database.dsn
    assert shop.runtime.database.dsn["connect_timeout"] == 7


def test_the_reader_is_never_serializable(shop: Shop, database: Database) -> None:
    """A serializable reader of the whole log would make serializable writers fail."""
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'serializable'")
    writer = database.connect(autocommit=False)
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id) VALUES (1)")
        held = (
            "SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock' AND pid IN"
            " (SELECT pid FROM pg_stat_activity WHERE application_name = 'pgevents_push')"
        )
        database.execute("INSERT INTO orders (id) VALUES (2)")
        wait_until(lambda: shop.heard)
        assert database.execute(held) == [(0,)]
    writer.commit()
    wait_until(lambda: sorted(shop.heard) == ["insert 1", "insert 2"])


def test_default_privileges_do_not_open_the_log(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with role(database, "Report") as name, role(database, "reader") as reader:
        for kind, right in (("SCHEMAS", "USAGE"), ("TABLES", "ALL"), ("FUNCTIONS", "EXECUTE")):
            database.execute(f'ALTER DEFAULT PRIVILEGES GRANT {right} ON {kind} TO "{name}"')
        install(database, "t")
        installer(database).install([], reader=reader)
        installer(database).install([], force=True)
        with database.connect(user=name).cursor() as cursor, pytest.raises(InsufficientPrivilege):
            cursor.execute("SELECT * FROM pgevents.log")
        database.connect(user=reader).cursor().execute("SELECT * FROM pgevents.log")
