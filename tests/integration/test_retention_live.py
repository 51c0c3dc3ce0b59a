"""Retention in an app: its listener prunes by itself, `flask pgevents prune` on demand."""

from __future__ import annotations

import time

import pytest

from pgevents_push.cli import pgevents
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop

# A row of four periods ago; the slots of this ring are 0.2 s long unless the test says otherwise.
_OLD = (
    "INSERT INTO pgevents.log (schema_name, table_name, type, pk, slot) SELECT 'public', 'orders', 'i', '{}',"
    " mod(floor(date_part('epoch', clock_timestamp()) / period)::bigint + 4, 8) FROM pgevents.retention"
)


def prune(shop: Shop, *arguments: str) -> tuple[int, str]:
    result = shop.app.test_cli_runner().invoke(pgevents, ["prune", *arguments])
    return result.exit_code, result.output


def emptied(database: Database) -> bool:
    """Whether the log is empty. To look is to hold a lock on it, so it is not looked without end."""
    time.sleep(0.5)
    return database.execute("SELECT count(*) FROM pgevents.log") == [(0,)]


def test_a_running_app_keeps_its_log_small(make_shop: MakeShop, database: Database) -> None:
    shop = make_shop(PGEVENTS_RETENTION_SECONDS=1)
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    assert database.execute("SELECT seconds, period FROM pgevents.retention") == [(1.0, 0.2)]
    database.execute("INSERT INTO orders (id) VALUES (1), (2)")
    shop.until("insert 1", "insert 2")
    wait_until(lambda: emptied(database), 20)
    database.execute("INSERT INTO orders (id) VALUES (3)")
    shop.until("insert 1", "insert 2", "insert 3")
    assert shop.runtime.status == "listening"


def test_a_pruning_that_fails_disturbs_nobody(make_shop: MakeShop, database: Database) -> None:
    shop = make_shop(PGEVENTS_RETENTION_SECONDS=1)
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.up()
    database.execute("ALTER FUNCTION pgevents.prune_v1() RENAME TO gone")
    pruner = shop.runtime._running.pruner if shop.runtime._running else None
    wait_until(lambda: pruner is not None and pruner._said is not None, 20)
    database.execute("INSERT INTO orders (id) VALUES (1)")
    shop.until("insert 1")
    assert shop.runtime.status == "listening"


def test_the_command(make_shop: MakeShop, database: Database) -> None:
    shop = make_shop()
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.create_all()
    shop.register()
    code, said = prune(shop)
    assert code == 1
    assert "pgevents" in said
    assert shop.app.test_cli_runner().invoke(pgevents, ["install"]).exit_code == 0
    assert prune(shop) == (0, "Nothing to empty.\n")
    database.execute("UPDATE pgevents.retention SET seconds = 0.001, since = '2020-01-01'")
    database.execute(_OLD)
    code, said = prune(shop)
    assert (code, said.split("  ")[1]) == (0, "emptied, about 1 changes\n")


@pytest.mark.parametrize("command", [["install"], ["sql"]])
def test_the_settings_reach_the_database(make_shop: MakeShop, database: Database, command: list[str]) -> None:
    shop = make_shop(PGEVENTS_RETENTION_SECONDS=50, PGEVENTS_RETENTION_ROWS=5000)
    shop.events.on_insert(shop.Order)(shop.hear())
    shop.create_all()
    shop.register()
    result = shop.app.test_cli_runner().invoke(pgevents, command)
    assert result.exit_code == 0
    if command == ["sql"]:
        database.execute(result.output)
    assert database.execute("SELECT seconds, rows, period FROM pgevents.retention") == [(50.0, 5000, 10.0)]
