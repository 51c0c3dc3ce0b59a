"""Rows of a table come as the text that their events have, all of one moment, whatever the table looks like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pgevents_push.errors import ConnectionLost, RowsError
from pgevents_push.event import TableName
from pgevents_push.listener import Connection, RowsWanted, find_table, read_rows, see_as_captured
from tests.fixtures.capture import install
from tests.fixtures.pooler import pgbouncer
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.integration.test_capture_rows import TYPES, VALUES

MOST_BYTES = 300_000


def rows(database: Database, table: str, /, *, most: int = MOST_BYTES, **wanted: Any) -> list[str]:
    return list(iterate(database, table, most, **wanted))


def iterate(database: Database, table: str, most: int = MOST_BYTES, **wanted: Any) -> Iterator[str]:
    name = TableName.parse(table)
    connection = Connection(database.dsn, 5)
    try:
        place = find_table(connection.execute, name)
        with connection.transaction([place.name], 20) as execute:
            see_as_captured(execute)
            kept = {"columns": None, "exposed": None, **wanted}
            yield from read_rows(execute, place, RowsWanted(**kept), most)
    finally:
        connection.close()


@pytest.mark.parametrize("filler", ["NULL", "repeat('x', 20000)"], ids=["short", "asked for by itself"])
@pytest.mark.parametrize("settings", ["", "-c DateStyle=German -c TimeZone=Asia/Tokyo -c bytea_output=escape"])
def test_every_type_is_the_text_that_the_event_has(database: Database, filler: str, settings: str) -> None:
    database.execute(TYPES)
    typed = ", ".join(f"c{at} {value[0]}" for at, value in enumerate(VALUES))
    database.execute(f"CREATE TABLE t (id int PRIMARY KEY, filler text, {typed}, oid regclass)")
    install(database, "t")
    database.execute(f"INSERT INTO t VALUES (1, {filler}, {', '.join(value[1] for value in VALUES)}, 't')")
    [(pk, row)] = database.execute("SELECT pk, new_row FROM pgevents.log")
    database.dsn["options"] = settings
    assert rows(database, "t") == [f'{{"pk":{pk},"row":{row}}}']


@pytest.mark.parametrize(
    ("name", "columns", "key", "values"),
    [
        ("t", '"100%" text, b int, "A b" int', '"A b", "100%"', "'50%', 1, 2"),
        ('"{order}"', '"{row}" int, k int, r int, t int, made int', "k, r", "1, 2, 3, 4, 5"),
        ('"T ""x"""', '"pgevents" int, "a""b" int, c\u00fc text', '"a""b"', "1, 2, chr(1) || chr(8364)"),
        ("t", "a int, b jsonb", "", """1, '{"n": [1]}'"""),
    ],
)
def test_awkward_names_and_keys(database: Database, name: str, columns: str, key: str, values: str) -> None:
    database.execute(f"CREATE TABLE {name} ({columns}{f', PRIMARY KEY ({key})' if key else ''})")
    install(database, name)
    database.execute(f"INSERT INTO {name} VALUES ({values})")
    [(pk, row)] = database.execute("SELECT pk, new_row FROM pgevents.log")
    assert rows(database, name) == [f'{{"pk":{pk},"row":{row}}}']


def test_columns_are_cut_from_the_row_and_hidden_ones_from_the_key(database: Database) -> None:
    database.execute("CREATE TABLE t (tenant int, id int, secret text, b text, PRIMARY KEY (id, tenant))")
    database.execute("INSERT INTO t VALUES (7, 1, 'x', 'y')")
    seen = frozenset({"id", "b"})
    assert rows(database, "t", exposed=seen, columns=seen) == ['{"pk":{"id":1},"row":{"id":1,"b":"y"}}']
    assert rows(database, "t", exposed=seen, columns=frozenset({"b"})) == ['{"pk":{"id":1},"row":{"b":"y"}}']
    assert rows(database, "t", exposed=frozenset({"gone"}), columns=frozenset({"gone"})) == ['{"pk":{},"row":{}}']


def test_the_order_is_that_of_the_key_and_a_limit_counts_from_its_start(database: Database) -> None:
    database.execute("CREATE TABLE t (b int, a int, PRIMARY KEY (a, b))")
    database.execute("INSERT INTO t SELECT n % 3, n FROM generate_series(700, 1, -1) AS n")
    keys = [row.partition(',"row"')[0] for row in rows(database, "t")]
    assert keys == [f'{{"pk":{{"a":{n},"b":{n % 3}}}' for n in range(1, 701)]
    assert len(rows(database, "t", limit=3)) == 3
    assert rows(database, "t", limit=3) == rows(database, "t")[:3]


def test_a_condition_is_applied_by_the_database(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, few text)")
    database.execute("INSERT INTO t SELECT n, n || '%' FROM generate_series(1, 5) AS n")
    found = rows(database, "t", condition=('t."few" = %(wanted)s', {"wanted": "3%"}))
    assert found == ['{"pk":{"id":3},"row":{"id":3,"few":"3%"}}']


def test_a_row_over_the_cap_is_its_key(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, body text)")
    database.execute("INSERT INTO t VALUES (1, 'a'), (2, repeat('x', 400000)), (3, repeat(chr(1), 60000))")
    database.execute("INSERT INTO t SELECT 4, string_agg(md5(n::text), '') FROM generate_series(1, 20000) AS n")
    first, *others = rows(database, "t")
    assert first == '{"pk":{"id":1},"row":{"id":1,"body":"a"}}'
    assert others == [f'{{"pk":{{"id":{n}}},"row":null,"truncated":true}}' for n in (2, 3, 4)]
    assert len(rows(database, "t", most=10_000_000)[1]) > 400_000
    only_id = frozenset({"id"})
    assert rows(database, "t", columns=only_id)[1] == '{"pk":{"id":2},"row":{"id":2}}'


def test_generated_columns_are_as_in_events(database: Database) -> None:
    virtual = ", v int GENERATED ALWAYS AS (a * 3) VIRTUAL" if database.connect().server_version >= 180000 else ""
    database.execute(f"CREATE TABLE t (a int PRIMARY KEY, s int GENERATED ALWAYS AS (a * 2) STORED{virtual})")
    install(database, "t")
    database.execute("INSERT INTO t (a) VALUES (4)")
    [(row,)] = database.execute("SELECT new_row FROM pgevents.log")
    assert rows(database, "t") == [f'{{"pk":{{"a":4}},"row":{row}}}']


def test_partitions_are_read_and_heirs_are_not(database: Database) -> None:
    database.execute("CREATE TABLE p (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    for n in range(3):
        database.execute(f"CREATE TABLE p{n} PARTITION OF p FOR VALUES FROM ({n * 10}) TO ({n * 10 + 10})")
    database.execute("INSERT INTO p SELECT n, repeat('x', n % 2 * 20000) FROM generate_series(0, 29) AS n")
    assert [row[:13] for row in rows(database, "p")] == [f'{{"pk":{{"id":{n}}},'[:13] for n in range(30)]
    assert sorted(len(row) > 20_000 for row in rows(database, "p")) == [False] * 15 + [True] * 15
    database.execute("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)")
    database.execute("INSERT INTO child VALUES (1)")
    assert rows(database, "parent") == []


def test_all_rows_are_of_one_moment_also_behind_a_pooler(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, version int)")
    database.execute("INSERT INTO t SELECT n, 0 FROM generate_series(1, 1000) AS n")
    with pgbouncer(database, "transaction", 2) as pooled:
        found = iterate(pooled, "t")
        first = next(found)
        database.execute("UPDATE t SET version = 1; DELETE FROM t WHERE id > 900; INSERT INTO t VALUES (2000, 1)")
        everything = [first, *found]
        assert len(everything) == 1000
        assert all('"version":0' in row for row in everything)
        connection = Connection(pooled.dsn, 5)
        assert connection.pooled
        with connection.transaction(["t"], 5) as execute:
            [(inside,)] = execute("SELECT current_setting('enable_seqscan')")
        [(after,)] = database.execute("SELECT current_setting('enable_seqscan')")
        assert (inside, after) == ("off", "on")
        pooled.execute("SELECT 1")  # nothing is left open in the pool's sessions
        connection.close()
    states = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert database.execute(states) == [(0,)]


def test_a_table_that_is_emptied_or_altered_meanwhile_waits(database: Database) -> None:
    """Both give a table new files, in which an older snapshot sees nothing."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("INSERT INTO t VALUES (1)")
    connection = Connection(database.dsn, 5)
    other = database.connect().cursor()
    other.execute("SET lock_timeout = '100ms'")
    with connection.transaction(["t"], 5):
        for statement in ("TRUNCATE t", "ALTER TABLE t ALTER id TYPE bigint"):
            with pytest.raises(Exception, match="lock timeout"):
                other.execute(statement)
    other.execute("TRUNCATE t")
    connection.close()


def test_a_transaction_has_a_deadline(database: Database) -> None:
    database.execute("CREATE TABLE t (id int)")
    connection = Connection(database.dsn, 5)
    with pytest.raises(ConnectionLost), connection.transaction(["t"], 0.3) as execute:
        execute("SELECT pg_sleep(10)")
    connection.close()
    connection = Connection(database.dsn, 5)

    def go_away() -> None:
        with connection.transaction(["t"], 0.3) as execute:
            database.execute("SELECT pg_sleep(1)")  # the server does not wait for us
            execute("SELECT 1")

    with pytest.raises(ConnectionLost):
        go_away()
    connection.close()


def test_what_cannot_be_read_says_what_to_do(database: Database) -> None:
    database.execute('CREATE TABLE "My t" (id int); CREATE VIEW v AS SELECT 1 AS id')
    with role(database, "Reader") as name:
        owner, database.dsn["user"] = database.dsn["user"], name
        with pytest.raises(RowsError, match=f'GRANT SELECT ON public."My t" TO "{name}"'):
            rows(database, '"My t"')
        database.execute(f'GRANT SELECT ON "My t" TO "{name}"; ALTER TABLE "My t" ENABLE ROW LEVEL SECURITY')
        with pytest.raises(RowsError, match=f'ALTER ROLE "{name}" BYPASSRLS'):
            rows(database, '"My t"')
        database.execute('ALTER TABLE "My t" DISABLE ROW LEVEL SECURITY')
        assert rows(database, '"My t"') == []
        database.dsn["user"] = owner
    for absent in ("v", "nothing"):
        with pytest.raises(RowsError, match=absent):
            rows(database, absent)
