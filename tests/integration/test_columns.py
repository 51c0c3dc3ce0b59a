"""What PostgreSQL says of columns, and whether what is concluded from it about letters is so."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa

from pgevents_push.event import TableName
from pgevents_push.hub.columns import read_columns
from pgevents_push.hub.condition import condition, where_sql
from tests.fixtures.oracle_table import asking
from tests.fixtures.postgres import Database, Server

SETUP = """
CREATE SCHEMA "Odd";
CREATE TYPE "Odd"."Mood%" AS ENUM ('sad', 'ok');
ALTER TYPE "Odd"."Mood%" ADD VALUE 'so so' BEFORE 'ok';
CREATE DOMAIN inner_mood AS "Odd"."Mood%";
CREATE DOMAIN mood AS inner_mood;
CREATE TYPE pair AS (x int, y int);
CREATE TYPE "text" AS ENUM ('a');
CREATE TABLE "Odd"."T.""%" (
  a int, gone int, b varchar(3), c text COLLATE "C", d mood, e "Odd"."Mood%", f numeric(10, 2)[], g timestamptz(3),
  "H i" char(2), j public."text", k jsonb, l json, m pair, n int4range, o real, p pair[]
);
ALTER TABLE "Odd"."T.""%" DROP COLUMN gone;
"""
ODD = TableName("Odd", 'T."%')


def test_types_labels_and_nulls(database: Database) -> None:
    execute = asking(database.connect())
    execute(SETUP)
    columns = read_columns(execute, ODD)
    mood, labels = '"Odd"."Mood%"', ("sad", "so so", "ok")
    assert [(column.name, column.type, column.labels) for column in columns.values()] == [
        ("a", "integer", ()), ("b", "character varying", ()), ("c", "text", ()), ("d", mood, labels),
        ("e", mood, labels), ("f", "numeric[]", ()), ("g", "timestamp with time zone", ()), ("H i", "character", ()),
        ("j", "public.text", ("a",)), ("k", "jsonb", ()), ("l", "json", ()), ("m", "public.pair", ()),
        ("n", "int4range", ()), ("o", "real", ()), ("p", "public._pair", ()),
    ]  # fmt: skip
    assert [name for name, column in columns.items() if not column.shows_null] == ["k", "l", "m"]
    assert {column.table for column in columns.values()} == {ODD}
    assert [name for name, column in columns.items() if column.collation] == ["b", "c", "H i"]
    # The search_path changes how PostgreSQL prints types, but not what we make of them.
    execute('SET search_path = "Odd", public, pg_catalog')
    assert read_columns(execute, ODD) == columns
    assert read_columns(execute, TableName("Odd", "none")) == {}


def test_operators_of_others_do_not_get_in(database: Database) -> None:
    """A right must not depend on whose `=` comes first in the search_path."""
    execute = asking(database.connect())
    execute(
        """
        CREATE TABLE t (name varchar);
        INSERT INTO t VALUES ('mine');
        CREATE FUNCTION always(varchar, varchar) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
        CREATE OPERATOR = (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = always);
        """
    )
    columns = read_columns(execute, TableName("public", "t"))
    where, parameters = where_sql(condition(sa.column("name") == "yours", columns), columns)
    assert execute("SELECT * FROM t WHERE name = 'yours'") == [("mine",)]
    assert execute(f"SELECT * FROM t WHERE {where}", parameters) == []


COLLATIONS = {
    "C": "LC_COLLATE 'C' LC_CTYPE 'C'",
    "libc": "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
    "builtin C": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C'",
    "builtin C.UTF-8": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
    "builtin Unicode": "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'",
    **{f"ICU {name}": f"LOCALE_PROVIDER icu ICU_LOCALE '{name}'" for name in ("und", "el", "tr", "az", "lt")},
    "LATIN1": "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    "SQL_ASCII": "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
}
CODE_POINTS = {"C", "libc", "builtin C", "builtin C.UTF-8", "builtin Unicode"}
FOLDING = {
    "C": (),
    "builtin C": (),
    "builtin C.UTF-8": ("k", "i"),
    "builtin Unicode": ("k", "i\u0307"),
    "ICU und": ("k", "i\u0307"),
    "ICU el": ("k", "i\u0307"),
    "LATIN1": (),
    "SQL_ASCII": (),
}


@pytest.fixture
def databases(server: Server) -> Iterator[dict[str, Database]]:
    """One with each collation that this server knows."""
    made: dict[str, Database] = {}
    for at, (name, options) in enumerate(COLLATIONS.items()):
        database = Database(server, f"pgevents_collated_{at}")
        encoding = "" if "ENCODING" in options else "ENCODING 'UTF8'"
        try:
            server.create(database.name, f"{encoding} {options}")
        except psycopg2.Error:
            continue
        made[name] = database
    yield made
    for database in made.values():
        database.close()
        server.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


# Every character beyond ASCII but the two that `Collation.folding` names. The surrogates are none.
MORE_LETTERS = """
SELECT count(*) FROM generate_series(128, 1114111) AS code
WHERE code NOT BETWEEN 55296 AND 57343 AND code NOT IN (8490, 304)
  AND (ascii(lower(chr(code))) < 128 OR char_length(lower(chr(code))) <> 1)
"""


def test_what_is_known_of_each_collation(databases: dict[str, Database]) -> None:
    assert {"C", "libc", "LATIN1", "SQL_ASCII"} <= databases.keys()
    for name, database in databases.items():
        execute = asking(database.connect())
        execute("CREATE TABLE t (a text)")
        collation = read_columns(execute, TableName("public", "t"))["a"].collation
        utf8 = name not in ("LATIN1", "SQL_ASCII")
        assert collation is not None
        assert collation.deterministic
        assert collation.by_code_point is (name in CODE_POINTS), name
        if name != "libc":  # which makes of the two what the machine's library says
            assert collation.folding == FOLDING.get(name), name
        if utf8 and collation.folding:
            assert execute(MORE_LETTERS) == [(0,)], name
        if collation.by_code_point:
            texts = ["a", "B", "\u00e4", "\uffff", "\U00010000", "", "a\u0300", "Z", "\ue000", "\u212a"]
            execute("INSERT INTO t SELECT unnest(%s)", [texts])
            assert [text for (text,) in execute("SELECT a FROM t ORDER BY a")] == sorted(texts), name
