"""Installing is idempotent, polite, safe for many processes at once, and can be taken back without a trace."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import create_engine

from demo.postgres import Postgres, find_binaries
from pgevents_push.capture import Installer, ddl, install_with, uninstall_ddl
from pgevents_push.capture import installer as installer_module
from pgevents_push.capture.render import MAKE_CAPTURE, function_name
from pgevents_push.errors import ConnectionLost, InstallError
from pgevents_push.event import TableName
from tests.fixtures.capture import MAX_ROW_BYTES, install, installer, logged
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.fixtures.servers import free_port

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
    ("sql", "word", "is_gap"),
    [
        ('ALTER TABLE t DISABLE TRIGGER "!pgevents_row"', "disabled", True),
        ("ALTER TABLE t DISABLE TRIGGER USER", "disabled", True),
        ("ALTER TABLE t DISABLE TRIGGER USER; ALTER TABLE t ADD b int", "disabled", True),
        ('DROP TRIGGER "!pgevents_truncate" ON t', "outdated", False),
        ("ALTER TABLE t RENAME id TO key", "outdated", False),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "outdated", False),
        ("ALTER TABLE t ALTER a TYPE bigint", "outdated", False),
        ("ALTER TABLE t DROP a", "outdated", False),
        ("ALTER TABLE t RENAME TO x; ALTER TABLE x RENAME TO t; ALTER TABLE t ALTER a SET DEFAULT 7", "current", False),
        ("ALTER TABLE t RENAME TO x; ALTER TABLE x RENAME TO t; ALTER TABLE t ADD b int", "outdated", False),
        ("CREATE TABLE c (id int PRIMARY KEY); DROP TABLE t; ALTER TABLE c RENAME TO t", "missing", True),
    ],
)  # fmt: skip
def test_what_ddl_broke_is_seen_and_mended(database: Database, sql: str, word: str, is_gap: bool) -> None:
    """And the log tells that changes may be missing, in the transaction that mended it."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    install(database, "t")
    database.execute(sql)
    assert words(database, "t") == [word]
    assert logged(database) == []
    assert installer(database).install([T]).complete
    assert words(database, "t") == ["current"]
    gaps: list[Any] = [("public.t", "g", {})] if is_gap else []
    assert [(event.table, event.type, event.pk) for event in logged(database)] == gaps


def test_a_renamed_table_is_found_under_its_new_name(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    database.execute("ALTER TABLE t RENAME TO later")
    assert words(database, "t", "later") == ["absent", "missing"]
    install(database, "later")
    database.execute("INSERT INTO later VALUES (1)")
    assert [(event.table, event.type) for event in logged(database)] == [("public.later", "i")]
    database.execute("ALTER TABLE later RENAME TO t")
    install(database, "t")  # what was changed meanwhile is in the log under another name
    assert [(event.table, event.type) for event in logged(database)] == [("public.t", "g")]


@pytest.mark.parametrize("when", ["meanwhile", "later"])
def test_a_log_of_before_learns_of_gaps(database: Database, when: str) -> None:
    """An earlier version kept no list of what was ever captured: the triggers tell, of strange names too."""
    database.execute("""CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE "Ünd 'so' weiter" (id int)""")
    names = [T, TableName("public", "Ünd 'so' weiter")]
    assert installer(database).install(names).complete
    interrupt = "ALTER TABLE t DISABLE TRIGGER USER; ALTER TABLE \"Ünd 'so' weiter\" DISABLE TRIGGER USER"
    database.execute(
        "ALTER TABLE pgevents.log ADD CONSTRAINT log_type_check CHECK (type IN ('i', 'u', 'd', 't'));"
        " COMMENT ON SCHEMA pgevents IS 'pgevents_push v1 0000';"
        f" DROP TABLE pgevents.captured; {interrupt if when == 'meanwhile' else ''}"
    )
    assert installer(database).install(names).complete
    if when == "later":
        assert logged(database) == []  # they were captured all the time
        database.execute(interrupt)
        assert installer(database).install(names).complete
    assert [(event.table, event.type) for event in logged(database)] == [(str(name), "g") for name in names]


# What versions before this one did not have.
BEFORE = f"""
    DROP FUNCTION {MAKE_CAPTURE}, pgevents.tidy_v1();
    CREATE FUNCTION pgevents.capture_v1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    DROP FUNCTION pgevents.begin_v1(text, text), pgevents.revoke_v1(text), pgevents.spend_v1(text), pgevents.prune_v1();
    DROP TABLE pgevents.captured, pgevents.spent, pgevents.retention, pgevents.emptied;
    COMMENT ON SCHEMA pgevents IS 'pgevents_push v1 0000'
"""


def test_those_who_were_let_in_by_a_version_before_get_what_is_new(database: Database) -> None:
    """Readers, and who makes triggers: a deploy must not take their listeners, tickets and revocations away."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with role(database, "Rea der") as reader, role(database, "admin") as admin, role(database, "nobody") as nobody:
        database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {admin}; GRANT pgevents_owner TO {admin}")
        database.execute(f"ALTER TABLE t OWNER TO {admin}")
        installer(database, user=admin).install([T], reader=reader)
        database.execute(f"{BEFORE}; GRANT EXECUTE ON FUNCTION pgevents.capture_v1() TO {admin}")
        assert installer(database).install([]).schema == "current"
        makers = (MAKE_CAPTURE, "pgevents.begin_v1(text, text)", "pgevents.tidy_v1()")
        for name, what in ((reader, ()), (admin, makers)):
            cursor = database.connect(user=name).cursor()
            cursor.execute("SELECT * FROM pgevents.log, pgevents.installation, pgevents.retention, pgevents.emptied")
            cursor.execute("SELECT pgevents.spend_v1('x' || random()), pgevents.revoke_v1('ann')")
            cursor.execute("SELECT * FROM pgevents.prune_v1()")
            for function in what:
                assert database.execute("SELECT has_function_privilege(%s, %s, 'EXECUTE')", name, function) == [(True,)]
        for function in ("pgevents.spend_v1(text)", "pgevents.revoke_v1(text)", "pgevents.prune_v1()"):
            assert database.execute("SELECT has_function_privilege(%s, %s, 'EXECUTE')", nobody, function) == [(False,)]
        assert database.execute("SELECT has_schema_privilege(%s, 'pgevents', 'USAGE')", nobody) == [(False,)]
        database.execute("ALTER TABLE t OWNER TO postgres")


def test_tables_that_a_version_before_captured_get_a_function_of_their_own(database: Database) -> None:
    """There was one for all. It stays for as long as a table, of another app perhaps, has it."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE later (id int PRIMARY KEY)")
    install(database, "t", "later")
    database.execute(BEFORE)
    for table in ("t", "later"):
        trigger = f"ON {table} FOR EACH %s EXECUTE FUNCTION pgevents.capture_v1('public', '{table}', 'id')"
        make = 'CREATE OR REPLACE TRIGGER "!pgevents_'
        database.execute(f'{make}row" AFTER INSERT OR UPDATE OR DELETE ' + trigger % "ROW")
        database.execute(f'{make}truncate" AFTER TRUNCATE ' + trigger % "STATEMENT")
    assert words(database, "t", "later") == ["outdated", "outdated"]
    install(database, "t")
    assert functions_of_tables(database) == ["capture_v1", function_name(T)]
    install(database, "later")
    assert functions_of_tables(database) == sorted([function_name(T), function_name(LATER)])
    database.execute("INSERT INTO t VALUES (1); INSERT INTO later VALUES (1)")
    assert [(event.type, event.table) for event in logged(database)] == [("i", "public.t"), ("i", "public.later")]


def test_a_table_that_a_version_before_captured_is_known_to_be(database: Database) -> None:
    """So that its next gap is told."""
    for name in ("t", '"Odd.é ""T"'):
        database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    names = [T, TableName("public", 'Odd.é "T')]
    installer(database).install(names)
    database.execute(BEFORE)
    assert installer(database).install(names).complete
    assert logged(database) == []
    for name in ("t", '"Odd.é ""T"'):
        database.execute(f'ALTER TABLE {name} DISABLE TRIGGER "!pgevents_row"')
    assert installer(database).install(names).complete
    assert [(event.table, event.type) for event in logged(database)] == [(str(name), "g") for name in names]


@pytest.mark.parametrize(
    "sql",
    [
        "COMMENT ON SCHEMA pgevents IS 'pgevents_push v1 0000'",
        f"COMMENT ON FUNCTION {MAKE_CAPTURE} IS NULL",
        *(f"DROP TABLE pgevents.{name}" for name in ("installation", "retention", "emptied", "captured", "spent")),
    ],
)
def test_an_outdated_schema_is_brought_up_to_date(database: Database, sql: str) -> None:
    install(database)
    database.execute(sql)
    assert installer(database).status([]).schema == "outdated"
    assert installer(database).install([]).schema == "current"


def test_a_newer_version_is_left_alone(database: Database) -> None:
    install(database)
    for thing in ("SCHEMA pgevents", f"FUNCTION {MAKE_CAPTURE}"):
        database.execute(f"COMMENT ON {thing} IS 'pgevents_push v2 00ff'")
    assert installer(database).install([]).complete
    assert database.execute("SELECT obj_description('pgevents'::regnamespace)") == [("pgevents_push v2 00ff",)]


def test_a_trigger_of_a_newer_version_is_left_alone(database: Database) -> None:
    """During a deploy old processes and new ones share the database."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    old = function_name(T)
    new = old.replace("capture_v1", "capture_v2")
    database.execute(f"ALTER FUNCTION pgevents.{old}() RENAME TO {new}; COMMENT ON FUNCTION pgevents.{new}() IS 'new'")
    assert words(database, "t") == ["current"]
    database.execute(f"ALTER FUNCTION pgevents.{new}() RENAME TO {old.replace('capture_v1', 'capture_v0')}")
    assert words(database, "t") == ["outdated"]
    install(database, "t")
    assert functions_of_tables(database) == [old]


def functions_of_tables(database: Database) -> list[str]:
    found = database.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'pgevents'::regnamespace AND prorettype = 'trigger'::regtype"
        " AND proname <> 'opened_v1'"  # one for all
    )
    return sorted(name for (name,) in found)


def test_the_functions_of_tables_come_and_go(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE later (id int PRIMARY KEY)")
    install(database, "t", "later")
    assert functions_of_tables(database) == sorted([function_name(T), function_name(LATER)])
    database.execute("ALTER TABLE t RENAME TO was_t; CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(database, "t")  # the renamed table keeps the function of its old name, and writes under it
    assert functions_of_tables(database) == sorted([function_name(T), function_name(LATER)])
    database.execute("INSERT INTO was_t VALUES (1); INSERT INTO t VALUES (2, 2)")
    assert [(event.type, event.table, event.new) for event in logged(database)] == [
        ("g", "public.t", None),  # another table under a name that was captured before
        ("i", "public.t", {"id": 1}),
        ("i", "public.t", {"id": 2, "n": 2}),
    ]
    database.execute("DROP TABLE later")
    installer(database).uninstall([T])
    assert functions_of_tables(database) == [function_name(T)]  # the other table has it still
    installer(database).uninstall([TableName("public", "was_t")])
    assert functions_of_tables(database) == []


def test_new_columns_take_no_lock_on_the_table(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    database.execute("ALTER TABLE t ADD n int")
    writer = database.connect(autocommit=False).cursor()
    writer.execute("INSERT INTO t VALUES (1, 1)")  # holds a lock until it ends
    install(database, "t")
    writer.execute("INSERT INTO t VALUES (2, 2)")
    writer.connection.commit()
    assert [event.new for event in logged(database)] == [{"id": 1, "n": 1}, {"id": 2, "n": 2}]


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
    database.server.create(other, "")
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


def test_a_network_that_swallows_everything_is_noticed(tmp_path: Path) -> None:
    """By TCP, as these connections block: for two hours by default, and the listener would wait for them."""
    with (
        Postgres(find_binaries(), data_dir=tmp_path / "data", port=free_port()) as own,
        Installer(
            {"host": "127.0.0.1", "port": str(own.port), "user": "postgres", "dbname": "postgres"},
            max_row_bytes=1000, lock_timeout_seconds=1, connect_timeout_seconds=10,
        )._connection() as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as sock,
    ):  # fmt: skip
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
