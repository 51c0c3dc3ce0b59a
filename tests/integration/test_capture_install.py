"""Installing is idempotent, polite, safe for many processes at once, and can be taken back without a trace."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine

from pgevents_push.capture import Installer, ddl, install_with, uninstall_ddl
from pgevents_push.capture import installer as installer_module
from pgevents_push.errors import ConnectionLost, InstallError
from pgevents_push.event import TableName
from tests.fixtures.capture import MAX_ROW_BYTES, install, installer, logged
from tests.fixtures.postgres import Database

T = TableName("public", "t")
LATER = TableName("public", "later")


def words(database: Database, *names: str) -> list[str]:
    return list(installer(database).status([TableName.parse(name) for name in names]).tables.values())


def dump(database: Database) -> str:
    command = [database.server.tool("pg_dump"), "-d", psycopg2.extensions.make_dsn(**database.dsn)]
    text = subprocess.check_output(command, text=True)
    # Newer versions of pg_dump put a random word around the script.
    return "\n".join(line for line in text.splitlines() if "restrict" not in line)


def test_status_has_a_word_for_everything(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY); CREATE VIEW v AS TABLE t;"
        "CREATE MATERIALIZED VIEW m AS TABLE t; CREATE UNLOGGED TABLE u (id int)"
    )
    first = installer(database).status([T, LATER])
    assert (first.schema, list(first.tables.values()), first.complete) == ("missing", ["missing", "absent"], False)
    install(database, "t", "later", "other")
    status = installer(database).status([T, LATER])
    assert (status.schema, list(status.tables.values())) == ("current", ["current", "absent"])
    assert (status.orphans, status.complete) == ((TableName("public", "other"),), True)
    assert words(database, "v", "m", "u", "pgevents.log", "pg_catalog.pg_class") == [
        "refused", "refused", "missing", "refused", "refused",
    ]  # fmt: skip
    with pytest.raises(InstallError, match=r"public\.v: it is a view: name the table below it"):
        installer(database).install([T, TableName("public", "v"), TableName("public", "u")])
    assert words(database, "t", "u") == ["current", "current"]


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ('ALTER TABLE t DISABLE TRIGGER "!pgevents_row"', "disabled"),
        ("ALTER TABLE t DISABLE TRIGGER USER", "disabled"),
        ('DROP TRIGGER "!pgevents_truncate" ON t', "outdated"),
        ("ALTER TABLE t RENAME id TO key", "outdated"),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "outdated"),
        ("ALTER TABLE t RENAME TO x; ALTER TABLE x RENAME TO t; ALTER TABLE t ADD b int", "current"),
        ("CREATE TABLE c (id int PRIMARY KEY); DROP TABLE t; ALTER TABLE c RENAME TO t", "missing"),
    ],
)  # fmt: skip
def test_what_ddl_broke_is_seen_and_mended(database: Database, sql: str, word: str) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    install(database, "t")
    database.execute(sql)
    assert words(database, "t") == [word]
    assert installer(database).install([T]).complete
    assert words(database, "t") == ["current"]


def test_a_renamed_table_is_found_under_its_new_name(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    database.execute("ALTER TABLE t RENAME TO later")
    assert words(database, "t", "later") == ["absent", "outdated"]
    install(database, "later")
    database.execute("INSERT INTO later VALUES (1)")
    assert logged(database)[0].table == "public.later"


@pytest.mark.parametrize(
    "sql",
    [
        "COMMENT ON SCHEMA pgevents IS 'pgevents_push v1 0000'",
        "COMMENT ON FUNCTION pgevents.capture_v1() IS NULL",
        "DROP TABLE pgevents.installation",
    ],
)
def test_an_outdated_schema_is_brought_up_to_date(database: Database, sql: str) -> None:
    install(database)
    database.execute(sql)
    assert installer(database).status([]).schema == "outdated"
    assert installer(database).install([]).schema == "current"


def test_a_newer_version_is_left_alone(database: Database) -> None:
    install(database)
    for thing in ("SCHEMA pgevents", "FUNCTION pgevents.capture_v1()"):
        database.execute(f"COMMENT ON {thing} IS 'pgevents_push v2 00ff'")
    assert installer(database).install([]).complete
    assert database.execute("SELECT obj_description('pgevents'::regnamespace)") == [("pgevents_push v2 00ff",)]


def test_the_installation_keeps_its_name(database: Database) -> None:
    install(database)
    first = database.execute("SELECT id FROM pgevents.installation")
    installer(database).install([], force=True)
    assert database.execute("SELECT id FROM pgevents.installation") == first


def test_another_cap_waits_for_force(database: Database) -> None:
    """Two applications with different caps must not take turns at every start."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    install(database, "t")
    small = installer(database, max_row_bytes=1000)
    assert small.status([T]).complete
    small.install([T])
    database.execute("INSERT INTO t VALUES (1, repeat('x', 2000))")
    small.install([T], force=True)
    database.execute("INSERT INTO t VALUES (2, repeat('x', 2000))")
    assert [event.truncated for event in logged(database)] == [False, True]


def test_nothing_to_do_writes_nothing_and_waits_for_nobody(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    before = database.execute("SELECT xmin::text FROM pg_trigger UNION ALL SELECT xmin::text FROM pg_proc")
    blocker = database.connect(autocommit=False)
    blocker.cursor().execute("LOCK TABLE t, pgevents.log IN ACCESS EXCLUSIVE MODE")
    blocker.cursor().execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(b"pgevents", "big"),))
    started = time.monotonic()
    assert installer(database).install([T]).complete
    assert time.monotonic() - started < 5  # it did not even try for a lock
    blocker.rollback()
    assert database.execute("SELECT xmin::text FROM pg_trigger UNION ALL SELECT xmin::text FROM pg_proc") == before


def test_a_locked_table_is_tried_again_and_then_named(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer_module, "ATTEMPTS", 2)
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    blocker = database.connect(autocommit=False)
    blocker.cursor().execute("INSERT INTO t VALUES (1)")
    with pytest.raises(InstallError, match=r"public\.t stayed locked .*2 attempts.*PGEVENTS_LOCK_TIMEOUT_SECONDS"):
        installer(database).install([T])
    # The writer that queued behind us is let through after our lock_timeout, and so is the next one.
    database.execute("INSERT INTO t VALUES (2)")
    blocker.rollback()
    assert installer(database).install([T]).complete


def test_a_table_that_is_released_in_time_is_captured(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    blocker = database.connect(autocommit=False)
    blocker.cursor().execute("INSERT INTO t VALUES (1)")
    release = threading.Timer(0.6, blocker.commit)  # longer than one lock_timeout
    release.start()
    assert installer(database).install([T]).complete
    release.join()


def test_twelve_at_once(database: Database) -> None:
    tables = [f"t{number}" for number in range(4)]
    for table in tables:
        database.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
    names = [TableName("public", table) for table in tables]
    barrier = threading.Barrier(12)

    def one(_: int) -> bool:
        barrier.wait(30)
        return installer(database).install(names).complete

    with ThreadPoolExecutor(12) as pool:
        for _ in range(4):
            assert all(pool.map(one, range(12)))
            assert database.execute("SELECT count(*) FROM pgevents.installation") == [(1,)]
            installer(database).uninstall(everything=True)


def test_uninstall_leaves_the_database_as_it_was(database: Database) -> None:
    database.execute(
        'CREATE SCHEMA "S x"; CREATE TABLE "S x"."T" (id int PRIMARY KEY, a text); CREATE TABLE nokey (a int);'
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)"
    )
    before = dump(database)
    install(database, '"S x"."T"', "nokey", "p")
    database.execute("INSERT INTO p VALUES (1)")
    assert dump(database) != before
    database.execute("DELETE FROM p")
    installer(database).uninstall(everything=True)
    assert dump(database) == before
    installer(database).uninstall(everything=True)  # twice does nothing
    installer(database).uninstall([T])


def test_uninstalling_one_table_leaves_the_others(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE later (id int PRIMARY KEY)")
    install(database, "t", "later")
    installer(database).uninstall([T])
    assert words(database, "t", "later") == ["missing", "current"]


def test_the_role_goes_with_the_last_database(database: Database) -> None:
    install(database)
    other = f"{database.name}_other"
    database.server.execute(f"CREATE DATABASE {other} TEMPLATE template0")
    try:
        second = Database(database.server, other)
        install(second)
        installer(database).uninstall(everything=True)
        assert database.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'pgevents_owner'") == [(1,)]
        second.execute("CREATE TABLE t (id int PRIMARY KEY)")
        install(second, "t")
        second.execute("INSERT INTO t VALUES (1)")
        assert len(logged(second)) == 1
        second.close()
    finally:
        database.server.execute(f"DROP DATABASE {other} WITH (FORCE)")


def test_what_somebody_built_upon_the_log_is_not_dropped(database: Database) -> None:
    install(database)
    database.execute("CREATE VIEW mine AS SELECT * FROM pgevents.log")
    with pytest.raises(InstallError, match="other objects depend on"):
        installer(database).uninstall(everything=True)
    assert installer(database).status([]).schema == "current"


def test_the_printed_ddl_does_the_same(database: Database) -> None:
    database.execute('CREATE TABLE "We\'ird $t%" (id int PRIMARY KEY, a int)')
    name = TableName("public", "We'ird $t%")
    before = dump(database)
    psql = [*database.psql_command(), "-q", "-v", "ON_ERROR_STOP=1"]
    script = ddl([name, LATER], max_row_bytes=MAX_ROW_BYTES)
    subprocess.run(psql, input=script, text=True, check=True, capture_output=True)
    assert installer(database).status([name, LATER]).complete
    subprocess.run(psql, input=uninstall_ddl(), text=True, check=True, capture_output=True)
    assert dump(database) == before


def test_install_in_the_transaction_of_somebody_else(database: Database) -> None:
    """As from SQLAlchemy's after_create: nothing is left when that transaction is rolled back."""
    engine = create_engine(database.url)

    def execute(connection: Any) -> Any:
        def run(statement: str) -> Any:
            result = connection.exec_driver_sql(statement)
            return result.fetchall() if result.returns_rows else None

        return run

    for outcome in ("rollback", "commit"):
        with engine.connect() as connection:
            connection.exec_driver_sql("SET search_path = 'My Path', public")
            connection.exec_driver_sql('CREATE TABLE t (id int PRIMARY KEY, "50%%" int)')
            status = install_with(execute(connection), [T], max_row_bytes=MAX_ROW_BYTES)
            assert status.complete
            assert connection.exec_driver_sql("SHOW search_path").scalar() == '"My Path", public'
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            getattr(connection, outcome)()
    assert len(logged(database)) == 1
    with engine.begin() as connection:
        assert install_with(execute(connection), [T], max_row_bytes=MAX_ROW_BYTES).complete
    engine.dispose()


def test_an_unreachable_database_is_named_without_its_password() -> None:
    away = Installer(
        {"host": "127.0.0.1", "port": 1, "user": "u", "password": "canary"},
        max_row_bytes=1000, lock_timeout_seconds=1, connect_timeout_seconds=2,
    )  # fmt: skip
    with pytest.raises(ConnectionLost, match="cannot be reached") as caught:
        away.status([T])
    assert "canary" not in str(caught.value)
