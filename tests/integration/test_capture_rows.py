"""Every kind of key, type and content arrives in the log as it is, and none makes a write fail."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from pgevents_push.event import decode
from tests.fixtures.capture import install, logged
from tests.fixtures.postgres import Database

# type, a literal, its JSON, another literal
VALUES: list[tuple[str, str, str, str]] = [
    ("bigint", "9223372036854775807", "9223372036854775807", "1"),
    ("numeric", "12345678901234567890.10", "12345678901234567890.10", "12345678901234567890.1"),
    ("numeric", "'NaN'", '"NaN"', "1"),
    ("double precision", "'Infinity'", '"Infinity"', "'-Infinity'"),
    ("double precision", "0.1", "0.1", "0.2"),
    ("real", "'NaN'", '"NaN"', "0"),
    ("boolean", "true", "true", "NULL"),
    ("text", "E'a\\\\\"\\n\\t\\x01 ü €'", json.dumps('a\\"\n\t\x01 ü €', ensure_ascii=False), "''"),
    ("character(4)", "'ab'", '"ab  "', "'abc'"),
    ("bytea", "'\\x00ff'", r'"\\x00ff"', "''"),
    ("uuid", "'6c0fdc1e-1a83-4f0a-9d0c-3a1c2f0a0001'", '"6c0fdc1e-1a83-4f0a-9d0c-3a1c2f0a0001"', "NULL"),
    ("json", """'{"b":1,  "a":"\\u0000", "a":2e400}'""", '{"b":1,  "a":"\\u0000", "a":2e400}', "'1'"),
    ("json", "'\"\\ud800\"'", '"\\ud800"', "'null'"),
    ("json", "'null'", "null", "'0'"),
    ("jsonb", """'{"b":1,"a":[1,null]}'""", '{"a": [1, null], "b": 1}', "'{}'"),
    ("timestamptz", "'2026-01-02 03:04:05.678901+02'", '"2026-01-02T01:04:05.678901+00:00"', "now()"),
    ("timestamptz", "'infinity'", '"infinity"', "now()"),
    ("timestamp", "'0044-03-15 12:00 BC'", '"0044-03-15T12:00:00 BC"', "'-infinity'"),
    ("date", "'2026-12-31'", '"2026-12-31"', "NULL"),
    ("interval", "'1 year 2 days -3 hours'", '"1 year 2 days -03:00:00"', "'24 hours'"),
    ("int4range", "'[1,5)'", '"[1,5)"', "'empty'"),
    ("int[]", "'{{1,2},{3,NULL}}'", "[[1,2],[3,null]]", "'{}'"),
    ("text[]", """'{"a,b","\\"",NULL}'""", r'["a,b","\"",null]', "NULL"),
    ("inet", "'::1/64'", '"::1/64"', "'10.0.0.1'"),
    ("mood", "'so so'", '"so so"', "'bad'"),
    ("positive", "7", "7", "8"),
    ("place", "'(1.5,\"a b\")'", '{"x":1.5,"name":"a b"}', "'(,)'"),
    ("place[]", "ARRAY['(2,)'::place]", '[{"x":2,"name":null}]', "'{}'"),
    ("tsvector", "'a:1 b'", "\"'a':1 'b'\"", "''"),
    ("bit varying(5)", "B'101'", '"101"', "B''"),
    ("point", "'(1,2)'", '"(1,2)"', "'(2,1)'"),
    ("tid", "'(0,1)'", '"(0,1)"', "NULL"),
]  # fmt: skip
WAYS = ["ordinary", "long", "stale"]
UUID = "6c0fdc1e-1a83-4f0a-9d0c-3a1c2f0a0001"
TYPES = """
CREATE TYPE mood AS ENUM ('bad', 'so so');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE place AS (x numeric, name text);
"""


@pytest.fixture(autouse=True, params=["row", "statement"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All of it in both ways to capture rows."""
    monkeypatch.setitem(globals(), "install", partial(install, mode=request.param))
    return str(request.param)


def take(way: str, database: Database, table: str = "t") -> str:
    """Make rows of a table take this way through its function, and return a text for its column `filler`. All three
    must say the same: what is made for the table as it was, and what carefully_v1() does for a row of more than 64 kB
    and for a table that has one column more."""
    database.execute(f"ALTER TABLE {table} ALTER filler SET STORAGE EXTERNAL")
    if way == "ordinary":
        database.execute("ALTER FUNCTION pgevents.carefully_v1 RENAME TO not_called")
        database.execute("ALTER FUNCTION pgevents.statement_query_v1 RENAME TO not_called_either")
    if way == "stale":
        database.execute(f"ALTER TABLE {table} ADD another int")
    return "x" * (70_000 if way == "long" else 1)


@pytest.mark.parametrize("way", WAYS)
def test_every_type(database: Database, way: str) -> None:
    database.execute(TYPES)
    columns = [f"c{number}" for number in range(len(VALUES))]
    typed = ", ".join(f"{name} {value[0]}" for name, value in zip(columns, VALUES, strict=True))
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, filler text, {typed})")
    install(database, "t")
    filler = take(way, database)
    database.execute(f"INSERT INTO t VALUES (1, '{filler}', {', '.join(value[1] for value in VALUES)})")
    (row,) = database.execute("SELECT new_row FROM pgevents.log")[0]
    for name, value in zip(columns, VALUES, strict=True):
        assert f'"{name}":{value[2]}' in row, value
    decode(row)
    logged(database)
    for name, value in zip(columns, VALUES, strict=True):
        database.execute(f"UPDATE t SET {name} = {value[3]}")
        (old, changed) = database.execute("SELECT old_row, changed FROM pgevents.log")[0]
        assert (old, changed) == (f'{{"{name}":{value[2]}}}', f'["{name}"]'), value
        logged(database)
    assert database.execute("DELETE FROM t RETURNING id") == [(1,)]
    assert logged(database)[0].old["id"] == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("definition", "values", "pk"),
    [
        ("id bigint PRIMARY KEY", "9007199254740993", {"id": 9007199254740993}),
        ('"Full Name" text PRIMARY KEY', "E'a\"\\\\ü'", {"Full Name": 'a"\\ü'}),
        ("id uuid PRIMARY KEY", f"'{UUID}'", {"id": UUID}),
        ("a int, \"B'%\" text, c int, PRIMARY KEY (c, \"B'%\")", "1, 'x', 5", {"c": 5, "B'%": "x"}),
        ("a int, b int, c int, PRIMARY KEY (b) INCLUDE (a)", "1, 2, 3", {"b": 2}),
        ("dropped int, id int PRIMARY KEY", "7, 7", {"id": 7}),
    ],
)  # fmt: skip
def test_every_kind_of_key(database: Database, definition: str, values: str, pk: Any, way: str) -> None:
    table = '"My.Schema"."Tä\\ble$"'
    database.execute('CREATE SCHEMA "My.Schema"')
    database.execute(f"CREATE TABLE {table} ({definition}, filler text)")
    if "dropped" in definition:
        database.execute(f"ALTER TABLE {table} DROP COLUMN dropped")
        values = "7"
    install(database, table)
    filler = take(way, database, table)
    database.execute(f"INSERT INTO {table} VALUES ({values}, '{filler}')")
    database.execute(f"UPDATE {table} SET filler = filler || 'y'")
    database.execute(f"DELETE FROM {table}")
    events = logged(database)
    assert [event.type for event in events] == ["i", "u", "d"]
    for event in events:
        assert event.table == "My.Schema.Tä\\ble$"
        assert (event.pk, list(event.pk), event.old_pk) == (pk, list(pk), None)


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_key_has_an_old_key(database: Database, way: str) -> None:
    database.execute("CREATE TABLE t (a int, b text, filler text, PRIMARY KEY (b, a))")
    install(database, "t")
    database.execute("INSERT INTO t VALUES (1, 'x', %s)", take(way, database))
    database.execute("UPDATE t SET a = 2")
    database.execute("UPDATE t SET filler = filler || 'm'")
    _, moved, noted = logged(database)
    assert (moved.pk, moved.old_pk, moved.changed, moved.old) == (
        {"b": "x", "a": 2},
        {"b": "x", "a": 1},
        ["a"],
        {"a": 1},
    )
    assert (noted.pk, noted.old_pk, noted.changed) == ({"b": "x", "a": 2}, None, ["filler"])
    assert len(noted.new["filler"]) == len(noted.old["filler"]) + 1


@pytest.mark.parametrize("way", WAYS)
def test_a_table_without_a_key_has_whole_old_rows(database: Database, way: str) -> None:
    database.execute("CREATE TABLE t (a int, filler text)")
    install(database, "t")
    filler = take(way, database)
    database.execute("INSERT INTO t VALUES (1, %s)", filler)
    database.execute("UPDATE t SET a = 2")
    database.execute("DELETE FROM t")
    inserted, updated, deleted = logged(database)
    assert {event.pk == {} and event.old_pk is None for event in (inserted, updated, deleted)} == {True}
    more = {"filler": filler, "another": None} if way == "stale" else {"filler": filler}
    assert (updated.new, updated.old, updated.changed) == ({"a": 2, **more}, {"a": 1, **more}, ["a"])
    assert (deleted.new, deleted.old) == (None, {"a": 2, **more})


def test_an_update_that_changes_nothing_is_no_event(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, n numeric, j json, x text)")
    install(database, "t")
    database.execute("INSERT INTO t VALUES (1, 1.0, '{\"a\":1}', repeat('x', 200000))")
    logged(database)
    database.execute("UPDATE t SET id = id, n = n, j = j, x = x || ''")
    assert logged(database) == []
    database.execute("UPDATE t SET n = 1.00")  # equal, but another text
    assert [event.changed for event in logged(database)] == [["n"]]


def test_nulls_and_generated_columns(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int,"
        " twice int GENERATED ALWAYS AS (a * 2) STORED, note text)"
    )
    install(database, "t")
    database.execute("INSERT INTO t (a) VALUES (NULL)")
    database.execute("UPDATE t SET a = 4")
    inserted, updated = logged(database)
    assert inserted.new == {"id": 1, "a": None, "twice": None, "note": None}
    assert (updated.new["twice"], updated.old, updated.changed) == (8, {"a": None, "twice": None}, ["a", "twice"])


def test_a_row_of_200_kb_is_whole(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    install(database, "t")
    text = "".join(chr(0x20 + n % 90) for n in range(200_000))
    database.execute("INSERT INTO t VALUES (1, %s, 1)", text)
    database.execute("UPDATE t SET b = 2")
    inserted, updated = logged(database)
    assert inserted.new["a"] == updated.new["a"] == text
    assert updated.old == {"b": 1}


@pytest.mark.parametrize(
    "value",
    ["repeat('x', 300000)", "repeat(chr(1), 100000)", "repeat(md5('x'), 200000)", "repeat('y', 50000000)"],
    ids=["just over", "grows as JSON", "6 MB", "50 MB"],
)
def test_a_row_over_the_cap_is_key_and_truncated(database: Database, value: str) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    install(database, "t")
    database.execute(f"INSERT INTO t VALUES (1, {value}, 1)")
    database.execute("UPDATE t SET b = 2, id = 5")
    database.execute("UPDATE t SET a = 'small'")
    database.execute(f"UPDATE t SET a = {value}")
    database.execute("DELETE FROM t")
    events = logged(database)
    assert all(event.truncated and event.new is None and event.old is None for event in events)
    assert [event.changed for event in events] == [[], ["id", "b"], ["a"], ["a"], []]
    assert [event.pk["id"] for event in events] == [1, 5, 5, 5, 5]
    assert events[1].old_pk == {"id": 1}


def test_the_key_itself_is_never_cut(database: Database) -> None:
    database.execute("CREATE TABLE t (id text PRIMARY KEY)")
    install(database, "t", max_row_bytes=1000)
    database.execute("INSERT INTO t VALUES (repeat('k', 100000))")
    (event,) = logged(database)
    assert (len(event.pk["id"]), event.truncated, event.new) == (100_000, True, None)


def test_a_row_that_no_text_can_hold(database: Database) -> None:
    """180 MB of control characters are 2 MB as stored and 1.08 GB as JSON, over PostgreSQL's limit. To build them
    takes 10 s and 1 GB of memory, so here a cast raises that same error."""
    database.execute(
        "CREATE TYPE bulky AS ENUM ('x', 'y'); CREATE FUNCTION shown(bulky) RETURNS json LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE program_limit_exceeded; END $$; CREATE CAST (bulky AS json) WITH FUNCTION shown(bulky);"
        "CREATE TABLE t (id int PRIMARY KEY, a bulky, b text); ALTER TABLE t ALTER b SET STORAGE EXTERNAL"
    )
    install(database, "t", max_row_bytes=1_000_000)
    database.execute("INSERT INTO t VALUES (1, 'x', repeat('x', 70000))")
    database.execute("UPDATE t SET a = 'y'")
    events = logged(database)
    assert [(event.pk, event.truncated, event.new) for event in events] == [({"id": 1}, True, None)] * 2
    assert events[1].changed == ["a"]


def test_deeply_nested_json(database: Database) -> None:
    """As deep as PostgreSQL takes it: the trigger must not need more of the stack than the statement did."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, j json)")
    install(database, "t")
    depth = 6000
    database.execute("INSERT INTO t VALUES (1, %s)", "[" * depth + "]" * depth)
    database.execute("UPDATE t SET j = '1'")
    assert database.execute("SELECT type, pk FROM pgevents.log ORDER BY id") == [("i", '{"id":1}'), ("u", '{"id":1}')]


def test_the_writers_settings_change_no_text(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, day date, span interval, f float8, raw bytea)"
    )
    install(database, "t")
    values = "'2026-01-02 03:04:05+00', '2026-02-03', '1 day 02:03', 0.1::float8 + 0.2, '\\xff'"
    database.execute(f"INSERT INTO t VALUES (1, {values})")
    database.execute(
        "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'iso_8601';"
        " SET extra_float_digits = -5; SET bytea_output = 'escape'; SET search_path = ''"
    )
    database.execute(f"INSERT INTO public.t VALUES (2, {values})")
    first, second = logged(database)
    assert {**first.new, "id": 2} == second.new
    assert first.new["at"] == "2026-01-02T03:04:05+00:00"
    assert first.new["f"] == 0.30000000000000004
    assert database.execute("SHOW search_path; SHOW TimeZone") == [("Asia/Tokyo",)]


def test_the_actor_is_what_the_writer_says(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    database.execute("INSERT INTO t VALUES (1)")
    database.execute("BEGIN; SET LOCAL pgevents.actor = '{\"user\": 7}'; INSERT INTO t VALUES (2); COMMIT")
    database.execute("INSERT INTO t VALUES (3)")
    database.execute("SET pgevents.actor = 'not json'; INSERT INTO t VALUES (4)")
    assert [event.actor for event in logged(database)] == [None, '{"user": 7}', None, "not json"]


def test_ddl_after_the_install_does_not_break_writes(database: Database) -> None:
    """New and renamed columns, also of the key, until the next install mends the trigger."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    install(database, "t")
    database.execute("ALTER TABLE t ADD b int DEFAULT 5; ALTER TABLE t RENAME id TO key; INSERT INTO t VALUES (1, 2)")
    database.execute("UPDATE t SET a = 3")
    database.execute("UPDATE t SET key = 2")
    database.execute("DELETE FROM t")
    events = logged(database)
    assert [event.pk for event in events] == [{"key": 1}, {"key": 1}, {"key": 2}, {"key": 2}]
    assert (events[2].old_pk, events[2].changed) == ({"key": 1}, ["key"])
    database.execute("ALTER TABLE t DROP COLUMN key; INSERT INTO t VALUES (1)")
    assert logged(database)[0].pk == {}


def test_a_column_that_is_new(database: Database) -> None:
    """Until the next install, alone, in a session that knew the table before and in one that did not."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    install(database, "t")
    database.execute("UPDATE t SET id = 1; ALTER TABLE t ADD a int")
    for number, session in enumerate((database.connect(), database.connect())):
        with session, session.cursor() as cursor:
            cursor.execute(f"UPDATE t SET a = {number}")
    first, second = logged(database)
    assert (first.new, first.changed, first.old) == ({"id": 1, "a": 0}, ["a"], {"a": None})
    assert (second.new, second.changed, second.old) == ({"id": 1, "a": 1}, ["a"], {"a": 0})


@pytest.mark.parametrize("mode", ["row"], indirect=True)
def test_a_partition_with_its_columns_in_another_order(database: Database) -> None:
    """The function is made for the parent's columns, and a partition runs it too."""
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, x int, a text, b text) PARTITION BY RANGE (id); ALTER TABLE t DROP x;"
        "CREATE TABLE leaf (b text, gone int, a text, id int NOT NULL); ALTER TABLE leaf DROP gone;"
        "ALTER TABLE t ATTACH PARTITION leaf FOR VALUES FROM (0) TO (9)"
    )
    install(database, "t")
    database.execute("INSERT INTO t VALUES (1, 'a', 'b')")
    database.execute("UPDATE t SET a = 'c'")
    database.execute("DELETE FROM leaf")
    inserted, updated, deleted = logged(database)
    assert inserted.new == {"id": 1, "a": "a", "b": "b"}
    assert (updated.new["a"], updated.changed, updated.old) == ("c", ["a"], {"a": "a"})
    assert (deleted.pk, deleted.old) == ({"id": 1}, {"id": 1, "a": "c", "b": "b"})


@pytest.mark.parametrize(
    ("before", "after", "value", "shown"),
    [
        ("int", "timestamptz USING now()", "'2026-01-02 03:04:05+00'", '"2026-01-02T03:04:05+00:00"'),
        ("text", "float8 USING 1", "0.1::float8 + 0.2", "0.30000000000000004"),
        ("mood", "interval USING '1 day'", "'1 day'", '"1 day"'),
        ("jsonb", "bytea USING NULL", "'\\xff'", '"\\\\xff"'),
    ],
)
def test_a_column_that_became_another_type(database: Database, before: str, after: str, value: str, shown: str) -> None:
    """Until the next install its function lacks a setting that the type needs, and the session is a new one, which
    prepared nothing for the old type."""
    database.execute(TYPES + f"CREATE TABLE t (id int PRIMARY KEY, a {before})")
    install(database, "t")
    database.execute(f"ALTER TABLE t ALTER a TYPE {after}")
    with database.connect() as writer, writer.cursor() as cursor:
        cursor.execute(
            "SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -5;"
            " SET bytea_output = 'escape'"
        )
        cursor.execute(f"INSERT INTO t VALUES (1, {value})")
        cursor.execute("UPDATE t SET a = NULL")
        cursor.execute("DELETE FROM t")
    inserted, updated, _ = database.execute("SELECT new_row, old_row, changed FROM pgevents.log ORDER BY id")
    assert inserted[0] == f'{{"id":1,"a":{shown}}}'
    assert updated[1:] == (f'{{"a":{shown}}}', '["a"]')


def test_a_column_that_becomes_numeric_is_compared_as_it_looks(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int)")
    install(database, "t")
    database.execute("ALTER TABLE t ALTER a TYPE numeric; INSERT INTO t VALUES (1, 1.0)")
    with database.connect() as writer, writer.cursor() as cursor:
        cursor.execute("UPDATE t SET a = 1.00")
    assert logged(database)[1].changed == ["a"]


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b",
        "ALTER TABLE t RENAME id TO x; ALTER TABLE t RENAME a TO id; ALTER TABLE t RENAME x TO a;"
        " ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a)",
        "ALTER TABLE t DROP a",
        "ALTER TABLE t DROP a, DROP b",
    ],
)
def test_columns_that_move_under_a_function(database: Database, ddl: str) -> None:
    """The log says what row_to_json() says, in the old session and in a new one, and after an install."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, a int, b int)")
    install(database, "t")
    database.execute(f"INSERT INTO t VALUES (1, 1, 7); {ddl}")
    logged(database)
    for session in (database.connect(), database.connect()):
        with session, session.cursor() as cursor:
            cursor.execute("UPDATE t SET id = id + 1 RETURNING row_to_json(t)")
            ((row,),) = cursor.fetchall()
        (event,) = logged(database)
        assert (event.new, list(event.new)) == (row, list(row))
        assert (event.changed, event.old) == (["id"], {"id": row["id"] - 1})
        install(database, "t")
