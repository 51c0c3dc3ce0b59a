"""Capture for each statement says what capture for each row says; where it cannot, it says so or is refused."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgevents_push.capture import MODES, Mode
from pgevents_push.capture.render import function_name
from pgevents_push.errors import InstallError
from pgevents_push.event import TableName
from tests.fixtures.capture import install, installer, logged
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database, fresh_database
from tests.fixtures.twins import Line, Twins, kinds, rows
from tests.fixtures.versions import VERSIONS, ServerOf

T = TableName("public", "t")
# A row of 2,000 bytes is too large. The names are such that a query could take them for its own.
CAP = 2000
# Those of `make test` are always the same; with `--hypothesis-profile=default` there are new ones.
EXAMPLES = int(os.environ.get("PGEVENTS_TWIN_EXAMPLES") or 12)
SCHEMA = """
CREATE TYPE mood AS ENUM ('bad', 'good');
CREATE TABLE t (
  gone int, id int, "R" int DEFAULT 1, n numeric DEFAULT 1.0, o text, place jsonb, mood mood, "d1" json, actor bytea,
  written float8, at timestamptz DEFAULT '2026-01-02 03:04:05+00', up int,
  CONSTRAINT t_pkey PRIMARY KEY (id) {deferrable}
);
ALTER TABLE t DROP gone;
{more}
"""
FAMILY = "ALTER TABLE t ADD FOREIGN KEY (up) REFERENCES t ON UPDATE CASCADE ON DELETE {action};"
BEFORE = """
CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.id % 5 = 4 THEN RETURN NULL; END IF;
  NEW.n := NEW.n + 0.50;
  RETURN NEW;
END $$;
CREATE TRIGGER before BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION before();
"""
SCHEMAS = {
    "plain": SCHEMA.format(deferrable="", more=""),
    "keys that may be swapped": SCHEMA.format(deferrable="DEFERRABLE", more=""),
    "a trigger before": SCHEMA.format(deferrable="", more=BEFORE),
    "rows that go with others": SCHEMA.format(deferrable="", more=FAMILY.format(action="CASCADE")),
    "rows that lose others": SCHEMA.format(deferrable="", more=FAMILY.format(action="SET NULL")),
}
key = st.integers(1, 9)
keys = st.lists(key, min_size=1, max_size=4, unique=True)
new_keys = st.lists(st.integers(1, 19), min_size=1, max_size=4, unique=True)
text = st.sampled_from(
    ["NULL", "''", "'a'", "E'\\\\\"\\n%'", "repeat('x', 3000)", "repeat('y', 70000)", "repeat('é', 700)"]
)
FIELDS = {
    '"R"': st.sampled_from(["7", '"R" + 1', "NULL"]),
    "n": st.sampled_from(["n * 1.00", "n + 1", "NULL"]),
    "o": text,
    "place": st.sampled_from(["'{\"a\": [1, null]}'", "'null'", "NULL"]),
    "mood": st.sampled_from(["'good'", "'bad'", "NULL"]),
    '"d1"': st.sampled_from(["'{\"b\" :  1}'", "NULL"]),
    "actor": st.sampled_from(["'\\xff00'", "NULL"]),
    "written": st.sampled_from(["0.1::float8 + 0.2", "'NaN'", "NULL"]),
    "at": st.sampled_from(["at + interval '1 day'", "'infinity'", "at"]),
    "id": st.sampled_from(["id + 10", "id", "10 - id", "id + 1", "11 - id"]),
    "up": st.sampled_from(["NULL", "1", "2", "id"]),
}


@st.composite
def changes(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3, unique=True))
    return ", ".join(f"{name} = {draw(FIELDS[name])}" for name in chosen)


@st.composite
def values(draw: st.DrawFn) -> str:
    up = st.sampled_from(["NULL", "1", "2"])
    return ", ".join(f"({each}, {draw(text)}, {draw(up)})" for each in draw(new_keys))


def listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


STATEMENTS = st.one_of(
    st.builds("INSERT INTO t (id, o, up) VALUES {}".format, values()),
    st.builds("INSERT INTO t (id, o) SELECT id + {}, o FROM t ORDER BY id".format, st.integers(10, 20)),
    st.builds("INSERT INTO t (id, o, up) VALUES {} ON CONFLICT (id) DO UPDATE SET {}".format, values(),
              st.sampled_from(["o = excluded.o", "n = 7.50", "id = t.id + 10", "o = t.o"])),
    st.builds("INSERT INTO t (id, o, up) VALUES {} ON CONFLICT DO NOTHING".format, values()),
    st.builds("UPDATE t SET {}".format, changes()),
    st.builds("UPDATE t SET {} WHERE id IN ({})".format, changes(), keys.map(listed)),
    st.builds("UPDATE t SET o = s.o, n = s.n FROM t AS s WHERE s.id = t.id + {}".format, st.integers(1, 3)),
    st.builds("DELETE FROM t WHERE id IN ({})".format, keys.map(listed)),
    st.builds(
        "MERGE INTO t USING (VALUES {}) AS s (id, o, up) ON t.id = s.id WHEN MATCHED AND t.id % 3 = 0 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET o = s.o, id = t.id + {}"
        " WHEN NOT MATCHED THEN INSERT (id, o) VALUES (s.id, s.o)".format,
        values(), st.sampled_from([0, 0, 20]),
    ),
    st.builds("WITH gone AS (DELETE FROM t WHERE id IN ({}) RETURNING *)"
              " INSERT INTO t (id, o, n) SELECT id, o, n + 1 FROM gone"
              .format, keys.map(listed)),
    st.builds("WITH it AS (UPDATE t SET {} WHERE id IN ({}) RETURNING *)"
              " INSERT INTO t (id, o) SELECT id + 30, o FROM it"
              .format, changes(), keys.map(listed)),
    st.builds("WITH new AS (INSERT INTO t (id, o) VALUES ({0} + 10, 'new'), ({0}, 'new') RETURNING id)"
              " DELETE FROM t USING new WHERE t.id = new.id - 10 OR t.id IN ({1})".format, key, keys.map(listed)),
    st.builds("WITH a AS (DELETE FROM t WHERE id IN ({}) RETURNING *), b AS (INSERT INTO t (id, o) SELECT id, o FROM a"
              " RETURNING *), c AS (DELETE FROM t WHERE id = 9 RETURNING *) SELECT count(*) FROM b, c"
              .format, keys.map(listed)),
    st.builds("COPY t (id, o) FROM STDIN\n{}".format,
              new_keys.map(lambda ids: "".join(f"{each}\tcopied\n" for each in ids))),
    st.builds("BEGIN; SET LOCAL pgevents.actor = '{{\"user\": {}}}'; UPDATE t SET n = n + 1; SAVEPOINT s;"
              " DELETE FROM t; ROLLBACK TO s; UPDATE t SET n = n + 1 WHERE id < 5; COMMIT".format, key),
    st.builds("DO $$ BEGIN UPDATE t SET n = 0; INSERT INTO t (id) VALUES ({0}), ({0}); EXCEPTION WHEN OTHERS THEN"
              " UPDATE t SET o = 'caught' WHERE id = {0}; END $$".format, key),
    st.sampled_from(["TRUNCATE t", "UPDATE t SET n = n", "ALTER TABLE t ADD IF NOT EXISTS later int DEFAULT 5",
                     "ALTER TABLE t DROP COLUMN IF EXISTS later"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def databases(server_of: ServerOf) -> Iterator[Callable[[int | None], Database]]:
    """Return what gives the one database of a version."""
    with ExitStack() as stack:
        made = {version: stack.enter_context(fresh_database(server_of(version))) for version in VERSIONS}
        yield lambda version: made[version]


def compare(by_row: list[Line], by_statement: list[Line]) -> None:
    """Of one statement. A statement of one kind says all in the same order; with several each kind, and each row."""
    if len(kinds(by_row)) == 1:
        assert by_statement == by_row
        return
    if [line for line in by_statement if line.type == "g"]:
        by_statement = [line for line in by_statement if line.type != "g"]
    else:
        assert rows(by_statement) == rows(by_row)
    assert kinds(by_statement) == kinds(by_row)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("version", VERSIONS)
def test_both_say_the_same(databases: Callable[[int | None], Database], version: int | None, name: str) -> None:
    twins = Twins(databases(version), SCHEMAS[name], ["t"], cap=CAP)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(STATEMENTS, min_size=3, max_size=8))
    def run(statements: list[str]) -> None:
        twins.write("TRUNCATE t")
        twins.write("INSERT INTO t (id, o, up) SELECT g, 'row ' || g, nullif(g / 3, 0) FROM generate_series(1, 9) AS g")
        for statement in statements:
            compare(*twins.write(statement))

    run()
    twins.close()


def test_a_row_that_a_trigger_of_another_table_changes_again(each_version: Database) -> None:
    """Nobody can tell from the transition tables that the inner statement came second, so the log says that it is not
    known; where the rows are others, it says nothing."""
    twins = Twins(
        each_version,
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (t int, n int);"
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE t SET n = NEW.n WHERE id = NEW.t; RETURN NULL; END $$;"
        "CREATE TRIGGER again AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION again();"
        "INSERT INTO t VALUES (1, 1)",
        ["t"],
    )
    statement = "WITH a AS (INSERT INTO t VALUES ({0}, 0) RETURNING *) INSERT INTO u SELECT {1}, 5 FROM a"
    by_row, by_statement = twins.write(statement.format(2, 2))
    assert [line.type for line in by_row] == ["i", "u"]
    assert sorted(line.type for line in by_statement) == ["g", "i", "u"]
    assert by_statement[-1].type == "g"
    by_row, by_statement = twins.write(statement.format(3, 1))
    assert sorted(by_row) == sorted(by_statement)
    twins.close()


def test_it_notes_nothing_beyond_a_statement(each_version: Database) -> None:
    """Neither of one that failed halfway, nor of one that was rolled back to a savepoint."""
    each_version.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(each_version, "t", mode="statement")
    each_version.execute(
        "BEGIN; INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = 2; SAVEPOINT a; DELETE FROM t;"
        " ROLLBACK TO a;"
        " DO $$ BEGIN INSERT INTO t VALUES (2, 2), (1, 1); EXCEPTION WHEN unique_violation THEN DELETE FROM t; END $$;"
        " INSERT INTO t VALUES (1, 1); DELETE FROM t; COMMIT"
    )
    assert [event.type for event in logged(each_version)] == ["i", "d", "i", "d"]


def test_the_plan_for_one_row_does_for_many(each_version: Database) -> None:
    """Sessions keep the plan of their first UPDATE. A loop in a loop over 20,000 rows would take minutes."""
    schema = "CREATE TABLE t (id int PRIMARY KEY, n int, o text DEFAULT 'some text')"
    twins = Twins(each_version, f"{schema}; INSERT INTO t SELECT generate_series(1, 20000)", ["t"])
    # So little memory that all of it, pairs too, goes through files.
    twins.write("SET work_mem = '64kB'; SET statement_timeout = '60s'")
    for number in range(8):
        compare(*twins.write(f"UPDATE t SET n = {number} WHERE id = 7"))
    by_row, by_statement = twins.write("UPDATE t SET n = -id, id = id + 100000")
    assert len(by_row) == 20000
    compare(by_row, by_statement)
    twins.close()


@pytest.mark.parametrize("columns", [0, 99, 100, 498])
def test_many_columns_and_none(each_version: Database, columns: int) -> None:
    """A function of PostgreSQL takes 100 arguments, a list 1,664 expressions; a table may have no column at all."""
    names = [f"c{number}" for number in range(columns)]
    inside = ", ".join(["id int PRIMARY KEY", *(f"{name} int" for name in names)]) if names else ""
    twins = Twins(each_version, f"CREATE TABLE t ({inside})", ["t"])
    insert = "INSERT INTO t (id, c0) VALUES (1, 1), (2, 2)" if names else "INSERT INTO t DEFAULT VALUES"
    by_row, by_statement = twins.write(insert)
    assert by_statement == (by_row if names else [])
    every = ", ".join(f"{name} = 3" for name in names)
    for statement in ["UPDATE t SET c1 = 2" if names else "", "ALTER TABLE t ADD late int DEFAULT 1",
                      "UPDATE t SET late = 2", f"UPDATE t SET {every}" if names else "", "DELETE FROM t"]:  # fmt: skip
        by_row, by_statement = twins.write(statement or "SELECT")
        assert by_row == by_statement
        assert bool(by_row) is statement.startswith(("UPDATE", "DELETE"))
    twins.close()


def test_a_table_that_grows_beyond_all_lists_can_still_be_written(each_version: Database) -> None:
    each_version.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    install(each_version, "t", mode="statement")
    each_version.execute("ALTER TABLE t " + ", ".join(f"ADD c{number} int" for number in range(900)))
    each_version.execute("INSERT INTO t VALUES (1); UPDATE t SET n = 2; UPDATE t SET n = 3 WHERE false; DELETE FROM t")
    assert [event.type for event in logged(each_version)] == ["i", "g", "d"]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)", "it is partitioned"),
        ("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF p DEFAULT",
         "it is a partition"),
        ("CREATE TABLE p (id int); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (p)", "it inherits from a table"),
        ("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE heir () INHERITS (t)", "others inherit from it"),
        ("CREATE TABLE t (id int PRIMARY KEY); {function}; CREATE TRIGGER mine AFTER UPDATE OF id ON t FOR EACH ROW"
         " EXECUTE FUNCTION f()", "its own trigger mine"),
        ("CREATE TABLE t (id int PRIMARY KEY); {function}; CREATE CONSTRAINT TRIGGER \"My own\" AFTER DELETE ON t"
         " DEFERRABLE FOR EACH ROW EXECUTE FUNCTION f()", 'its own trigger "My own"'),
        ("CREATE TABLE t (id int PRIMARY KEY); DO $$ BEGIN FOR i IN 1 .. 500 LOOP"
         " EXECUTE 'ALTER TABLE t ADD c' || i || ' int'; END LOOP; END $$", "it has more than 500 columns"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("when", ["before", "later"])
def test_what_it_would_miss_or_tell_wrongly_is_refused(database: Database, sql: str, reason: str, when: str) -> None:
    """And seen when it comes about later. Row by row it can be captured."""
    function = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    ours = installer(database, mode="statement")
    if when == "later" and "; " in sql and sql.startswith("CREATE TABLE t"):
        table, sql = sql.split("; ", 1)
        database.execute(table)
        assert ours.install([T]).complete
    database.execute(sql.format(function=function))
    with pytest.raises(InstallError, match=rf'{reason}.*: declare it without capture="statement"'):
        ours.install([T])
    assert ours.status([T]).tables == {T: "refused"}
    assert installer(database).install([T]).complete


@pytest.mark.parametrize(
    "sql", ["ALTER TABLE t DISABLE TRIGGER mine",
            "DROP TRIGGER mine ON t; CREATE TRIGGER mine BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
            "DROP TRIGGER mine ON t; CREATE TRIGGER mine AFTER DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION f()"],
)  # fmt: skip
def test_triggers_that_do_no_harm_are_allowed(database: Database, sql: str) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY REFERENCES t); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END'; CREATE TRIGGER mine AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    database.execute(sql)
    assert installer(database, mode="statement").install([T]).complete


@pytest.mark.parametrize("first", MODES)
@pytest.mark.parametrize("then", MODES)
def test_another_mode_is_installed_anew_and_loses_nothing(database: Database, first: Mode, then: Mode) -> None:
    """While somebody writes, and with no gap in the log, because there is none."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    installer(database, mode=first).install([T])
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write, database, stop)
        for mode in (then, first, then):
            assert installer(database, mode=mode).status([T]).tables == {T: "current" if first == then else "outdated"}
            assert installer(database, mode=mode).install([T]).complete
        stop.set()
        count = written.result()
    assert [(event.type, event.pk) for event in logged(database)] == [("i", {"id": n}) for n in range(count)]
    names = database.execute(
        "SELECT DISTINCT p.proname FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE tgrelid = 't'::regclass AND p.proname <> 'opened_v1'"
    )
    assert names == [(function_name(T, then),)]
    installer(database, mode=then).uninstall([T])
    assert database.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass") == [(0,)]


@pytest.mark.parametrize("first", MODES)
def test_another_mode_ends_nobody_who_has_read_and_then_writes(database: Database, first: Mode) -> None:
    """Were the writers' lock taken first and that of the readers behind it, one of both would have to give up."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
    install(database, "t", mode=first)
    then: Mode = "row" if first == "statement" else "statement"
    with database.connect(autocommit=False) as connection, ThreadPoolExecutor(1) as pool:
        cursor = connection.cursor()
        cursor.execute("SET deadlock_timeout = '10ms'")
        cursor.execute("SELECT FROM t")
        installed = pool.submit(installer(database, mode=then, seconds=5).install, [T])
        wait_until(lambda: database.execute("SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"))
        cursor.execute("UPDATE t SET n = 2")
        connection.commit()
        assert installed.result().complete


def write(database: Database, stop: threading.Event) -> int:
    """Insert rows one by one until told to stop; at least so many that all the while somebody writes."""
    connection = database.connect()
    with connection.cursor() as cursor:
        for number in itertools.count():
            if stop.is_set():
                return number
            cursor.execute("INSERT INTO t VALUES (%s, 0)", [number])
    raise AssertionError


@pytest.mark.parametrize("name", ["opened", "insert", "update", "delete", "truncate"])
@pytest.mark.parametrize(
    "sql", ['DROP TRIGGER "!pgevents_{name}" ON t', 'ALTER TABLE t DISABLE TRIGGER "!pgevents_{name}"']
)
def test_a_trigger_that_is_missing_is_made_again(database: Database, sql: str, name: str) -> None:
    """Where changes may have been missed, the log says so."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t", mode="statement")
    database.execute(sql.format(name=name))
    ours = installer(database, mode="statement")
    assert ours.status([T]).tables == {T: "outdated" if "DROP" in sql else "disabled"}
    assert ours.install([T]).complete
    assert [event.type for event in logged(database)] == (["g"] if name in ("insert", "update", "delete") else [])


def test_a_stale_function_leaves_the_writers_settings_alone(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t", mode="statement")
    database.execute("ALTER TABLE t ADD at timestamptz; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'")
    database.execute("BEGIN; SET LOCAL bytea_output = 'escape'; INSERT INTO t VALUES (1, '2026-01-02 03:04:05+00')")
    names = ("TimeZone", "DateStyle", "bytea_output")
    assert [database.execute(f"SHOW {name}") for name in names] == [
        [("Asia/Tokyo",)],
        [("German, DMY",)],
        [("escape",)],
    ]
    database.execute("COMMIT")
    assert [database.execute(f"SHOW {name}") for name in names[1:]] == [[("German, DMY",)], [("hex",)]]
    assert logged(database)[0].new["at"] == "2026-01-02T03:04:05+00:00"
