"""Nobody reads, forges or silences the log, or borrows the rights of its functions."""

from __future__ import annotations

from typing import Any

import psycopg2.errors
import pytest

from pgevents_push.capture import Installer, Mode, literal, quote, quoted
from pgevents_push.capture.render import function_name
from pgevents_push.errors import ConnectionLost, InstallError
from pgevents_push.event import TableName
from pgevents_push.listener import Connection, read_position
from tests.fixtures.capture import install, installer, logged
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role

T = TableName("public", "t")


@pytest.fixture
def mallory(database: Database) -> Any:
    """A writer without grants of ours, who may create things in public."""
    with role(database, "mallory") as name:
        database.execute(f"CREATE TABLE t (id int PRIMARY KEY, n int); GRANT ALL ON t TO {name}")
        database.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
        install(database, "t")
        yield database.connect(user=name).cursor()


FORBIDDEN = [
    "SELECT * FROM pgevents.log",
    "SELECT * FROM pgevents.installation",
    "INSERT INTO pgevents.log (schema_name, table_name, type, pk) VALUES ('public', 't', 'i', '{}')",
    "UPDATE pgevents.log SET pk = '{}'",
    "DELETE FROM pgevents.log",
    "TRUNCATE pgevents.log",
    "SELECT pgevents.ring_v1()",
    f"SELECT pgevents.{function_name(T)}()",
    "SELECT pgevents.make_capture_v1('t'::regclass, 'public', 't', 'capture_v1_mine', '', current_user)",
    "SELECT * FROM pgevents.carefully_v1('INSERT', 't'::regclass, '{}', (NULL::t), (NULL::t))",
    "SELECT pgevents.tidy_v1()",
    "SELECT pgevents.prune_v1()",
    "TRUNCATE pgevents.log_0",
    "SELECT * FROM pgevents.emptied",
    "CREATE TABLE pgevents.mine ()",
    "DROP SCHEMA pgevents CASCADE",
    'DROP TRIGGER "!pgevents_row" ON t',
    'ALTER TABLE t DISABLE TRIGGER "!pgevents_row"',
    "CREATE TABLE mine (id int); CREATE TRIGGER x AFTER INSERT ON mine FOR EACH ROW"
    f" EXECUTE FUNCTION pgevents.{function_name(T)}()",
]


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_a_writer_may_do_nothing_with_the_log_but_write_its_tables(mallory: Any, database: Database, sql: str) -> None:
    mallory.execute("INSERT INTO t VALUES (1, 1)")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        mallory.execute(sql)
    assert [event.pk for event in logged(database)] == [{"id": 1}]


def test_execute_alone_keeps_others_from_borrowing_the_function(mallory: Any, database: Database) -> None:
    """Also for a role that may see into the schema."""
    mallory.execute("SELECT current_user")
    database.execute(f"GRANT USAGE ON SCHEMA pgevents TO {quote(mallory.fetchone()[0])}")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match=r"permission denied for function .*capture_v1_"):
        mallory.execute(FORBIDDEN[-1])


def test_functions_are_hardened(database: Database) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(database, "t")
    functions = database.execute(
        "SELECT p.proname, p.prosecdef, p.proconfig, p.proacl::text, r.rolname, r.rolsuper, r.rolcanlogin"
        " FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner"
        " WHERE p.pronamespace = 'pgevents'::regnamespace"
    )
    assert len(functions) == 29
    for name, definer, settings, rights, owner, is_super, can_login in functions:
        assert (owner, is_super, can_login) == ("pgevents_owner", False, False), name
        assert "=" not in {entry[:1] for entry in rights.strip("{}").split(",")}, name  # PUBLIC is the empty name
        assert not definer or "search_path=pg_catalog, pg_temp" in settings, name
    assert sorted(name for name, definer, *_ in functions if definer) == [
        "begin_v1", function_name(T), "make_capture_v1", "prune_v1", "revoke_v1", "spend_v1", "tidy_v1",
    ]  # fmt: skip


def test_functions_and_operators_of_the_writer_are_never_called(mallory: Any, database: Database) -> None:
    for kind in ("text", "json", "anyelement", "record", "name"):
        for name in ("lower", "to_json", "row_to_json", "octet_length", "current_setting", "pg_column_size"):
            mallory.execute(
                f"CREATE FUNCTION {name}({kind}) RETURNS text LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END $$"
            )
    mallory.execute(
        "CREATE FUNCTION evil(text, text) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'hijacked as %', current_user; END $$;"
        "CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil)"
    )
    mallory.execute("CREATE TEMP TABLE log (LIKE t); CREATE TEMP TABLE pg_attribute (attname int)")
    mallory.execute("SET search_path = public, pg_temp, pg_catalog")
    mallory.execute("INSERT INTO public.t VALUES (1, 1); UPDATE public.t SET n = 2; DELETE FROM public.t")
    mallory.execute("SHOW search_path")
    assert mallory.fetchone() == ("public, pg_temp, pg_catalog",)
    assert [event.type for event in logged(database)] == ["i", "u", "d"]


CASTS = """
CREATE TYPE odd AS ENUM ('x', 'y "z"');
CREATE DOMAIN odder AS odd;
CREATE TYPE pair AS (v odd, n int);
CREATE FUNCTION shown(odd) RETURNS json LANGUAGE sql AS $$ SELECT to_json('called as ' || current_user) $$;
CREATE FUNCTION shown(pair) RETURNS json LANGUAGE sql AS $$ SELECT to_json('called as ' || current_user) $$;
CREATE FUNCTION said(odd) RETURNS text LANGUAGE sql AS $$ SELECT 'called as ' || current_user $$;
CREATE CAST (odd AS json) WITH FUNCTION shown(odd);
CREATE CAST (pair AS json) WITH FUNCTION shown(pair);
CREATE CAST (odd AS text) WITH FUNCTION said(odd) AS ASSIGNMENT;
"""
ODD_TABLE = "(id odd, v odd, d odder, many odd[], pairs pair[], one pair, n int, filler text, PRIMARY KEY (id))"


@pytest.mark.parametrize("way", ["made for", "long", "stale"])
@pytest.mark.parametrize("mode", ["row", "statement", "key"])
def test_no_cast_of_a_types_owner_is_called(each_version: Database, mode: Mode, way: str) -> None:
    """to_json() would call them, with the rights of the log's owner: who owns a table could read what others write."""
    database = each_version
    with role(database, "owner") as name:
        owner = database.connect(user=name).cursor()
        database.execute(f"CREATE SCHEMA theirs AUTHORIZATION {name}")
        owner.execute(f"SET search_path = theirs; {CASTS}; CREATE TABLE o {ODD_TABLE}")
        install(database, "theirs.o", mode=mode)
        owner.execute("ALTER TABLE o ALTER filler SET STORAGE EXTERNAL")
        if way == "stale":
            owner.execute("ALTER TABLE o ADD more odd DEFAULT 'x'")
        filler = "repeat('f', 70000)" if way == "long" else "'f'"
        values = f"""'x', 'y "z"', 'x', '{{x,NULL}}', ARRAY[('x', 1)::pair], ('x', 2), 1, {filler}"""
        owner.execute(f"INSERT INTO o VALUES ({values})")
        owner.execute("UPDATE o SET v = 'x', d = NULL, many = '{}', pairs = NULL, one = NULL, n = 2")
        owner.execute("""UPDATE o SET id = 'y "z"'""")
        owner.execute("DELETE FROM o")
        assert "called" not in str(database.execute("SELECT l::text FROM pgevents.log AS l"))
        inserted, updated, moved, deleted = logged(database)
        assert (inserted.pk, moved.pk, moved.old_pk) == ({"id": "x"}, {"id": 'y "z"'}, {"id": "x"})
        if mode != "key":
            told = {key: inserted.new[key] for key in ("v", "d", "many", "pairs", "one", "n")}
            assert told == {
                "v": 'y "z"', "d": "x", "many": ["x", None], "pairs": '{"(x,1)"}', "one": "(x,2)", "n": 1,
            }  # fmt: skip
            assert updated.old == told
            assert {updated.new[key] for key in ("d", "pairs", "one")} == {None}
            assert deleted.old["v"] == "x"
        database.execute("DROP SCHEMA theirs CASCADE")


@pytest.mark.parametrize("mode", ["row", "statement", "key"])
@pytest.mark.parametrize(
    ("before", "after"),
    [("int", "odd USING 'x'"), ("text", "odd USING 'x'"), ("int4range", "strange USING '(1,2)'"),
     ("text[]", "odd[] USING '{x}'"), ("jsonb", "odd USING 'x'"), ("mood", "odd USING 'x'")],
)  # fmt: skip
def test_a_column_that_became_a_type_of_its_owner(each_version: Database, mode: Mode, before: str, after: str) -> None:
    """Until it is made again the function asks whether the columns are what it is made for: without a cast."""
    database = each_version
    with role(database, "owner") as name:
        owner = database.connect(user=name).cursor()
        database.execute(f"CREATE SCHEMA theirs AUTHORIZATION {name}; CREATE TYPE mood AS ENUM ('x')")
        owner.execute("SET search_path = theirs, public; CREATE SEQUENCE calls")
        owner.execute("GRANT USAGE ON SCHEMA theirs TO PUBLIC; GRANT ALL ON SEQUENCE calls TO PUBLIC")
        owner.execute(f'CREATE TABLE o (id int PRIMARY KEY, v {before}, "V" {before})')
        install(database, "theirs.o", mode=mode)
        owner.execute("CREATE TYPE odd AS ENUM ('x'); CREATE TYPE strange AS RANGE (subtype = int)")
        for source, target in (("odd", before), ("strange", before), ("odd", "text"), ("odd", "json")):
            function = f"called_{source}_{abs(hash(target))}"
            if (source == "strange") is (before == "int4range") and not (before == "text[]" and target == before):
                owner.execute(
                    f"CREATE OR REPLACE FUNCTION {function}({source}) RETURNS {target} LANGUAGE plpgsql AS $$ BEGIN"
                    " IF current_user = 'pgevents_owner' THEN PERFORM nextval('theirs.calls'); END IF;"
                    " RETURN NULL; END $$"
                )
                owner.execute(
                    f"DROP CAST IF EXISTS ({source} AS {target});"
                    f" CREATE CAST ({source} AS {target}) WITH FUNCTION {function}({source}) AS IMPLICIT"
                )
        owner.execute(f'ALTER TABLE o ALTER v TYPE {after}, ALTER "V" TYPE {after}')
        for _ in range(2):
            owner.execute("INSERT INTO o VALUES (1); UPDATE o SET id = 2; DELETE FROM o")
            owner = database.connect(user=name, options="-c search_path=theirs,public").cursor()
            install(database, "theirs.o", mode=mode)
        assert database.execute("SELECT is_called FROM theirs.calls") == [(False,)]
        assert [event.type for event in logged(database)] == ["i", "u", "d"] * 2
        database.execute("DROP SCHEMA theirs CASCADE")


def test_casts_of_those_who_install_are_called(database: Database) -> None:
    """As are those of extensions: hstore is an object in JSON."""
    database.execute(f"{CASTS}; CREATE TABLE o {ODD_TABLE}")
    install(database, "o")
    database.execute("INSERT INTO o (id, many, one) VALUES ('x', '{x}', ('x', 2))")
    [event] = logged(database)
    called = "called as pgevents_owner"
    assert (event.new["id"], event.new["many"], event.new["one"]) == (called, [called], {"v": called, "n": 2})


def test_a_schema_that_somebody_else_made_is_not_used(database: Database) -> None:
    with role(database, "squatter") as name:
        database.execute(f"CREATE SCHEMA pgevents AUTHORIZATION {name}; CREATE TABLE t (id int)")
        with pytest.raises(InstallError, match=f"belongs to the role '?{name}"):
            installer(database).install([T])
        database.execute("DROP SCHEMA pgevents")


NAMES = [
    "plain",
    "UPPER",
    "select",
    'q"uote',
    "it's",
    "back\\slash",
    "per%cent%s",
    "$pgevents$",
    "$$",
    "ü€😀",
    "a b",
    "{table}",
]


@pytest.mark.parametrize("text", [*NAMES, "".join(NAMES)[:15], "\\'", "'\\", "E'", "\x01\x7f\n"])
def test_names_are_quoted_as_postgresql_does(database: Database, text: str) -> None:
    ((ident, value),) = database.execute("SELECT quote_ident(%s), %s", text, text)
    assert quote(text).strip('"') == ident.strip('"')
    assert database.execute(f"SELECT {literal(text)}") == [(value,)]
    assert database.execute(f"SELECT {quote(text)} FROM (SELECT 1 AS {quote(text)}) x") == [(1,)]


@pytest.mark.parametrize("text", NAMES)
def test_hostile_names_are_captured_and_taken_back(database: Database, text: str) -> None:
    name = TableName(text, text + "2")
    database.execute(f"CREATE SCHEMA {quote(text)}; CREATE TABLE {quoted(name)} ({quote(text)} int PRIMARY KEY)")
    assert installer(database).install([name]).complete
    database.execute(f"INSERT INTO {quoted(name)} VALUES (1)")
    (event,) = logged(database)
    assert (event.table, event.pk) == (str(name), {text: 1})
    installer(database).uninstall([name])
    assert installer(database).status([name]).tables == {name: "missing"}


def test_an_installer_that_may_not_create_roles(database: Database) -> None:
    """Most hosted databases: its own role owns everything, and all works the same."""
    with role(database, "app") as app, role(database, "writer") as writer:
        database.execute(f"GRANT CREATE ON DATABASE {database.name} TO {app}; GRANT CREATE ON SCHEMA public TO {app}")
        owner = database.connect(user=app).cursor()
        owner.execute(f"CREATE TABLE t (id int PRIMARY KEY); GRANT INSERT ON t TO {writer}")
        status = installer(database, user=app).install([T])
        assert (status.complete, status.owner) == (True, app)
        database.connect(user=writer).cursor().execute("INSERT INTO t VALUES (1)")
        owner.execute("SELECT pk FROM pgevents.log")
        assert owner.fetchall() == [('{"id":1}',)]
        owner.execute(f"SELECT has_function_privilege('public', 'pgevents.{function_name(T)}()', 'EXECUTE')")
        assert owner.fetchall() == [(False,)]
        assert installer(database, user=app).install([T]).complete
        installer(database, user=app).uninstall(everything=True)
        database.execute("DROP TABLE t")


def test_an_installer_that_may_create_roles_but_is_no_superuser(database: Database) -> None:
    with role(database, "admin", "CREATEROLE") as admin:
        database.execute(
            f"GRANT CREATE ON DATABASE {database.name} TO {admin}; GRANT CREATE ON SCHEMA public TO {admin}"
        )
        cursor = database.connect(user=admin).cursor()
        cursor.execute("CREATE TABLE t (id int PRIMARY KEY)")
        assert installer(database, user=admin).install([T]).complete
        assert installer(database, user=admin, max_row_bytes=1000).install([T], force=True).complete
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.execute("SELECT pk FROM pgevents.log")
        assert cursor.fetchall() == [('{"id":1}',)]
        installer(database, user=admin).uninstall(everything=True)
        database.execute("DROP TABLE t")


def test_a_reader_may_read_and_nothing_else(database: Database) -> None:
    with role(database, "Rea der") as name:
        database.execute("CREATE TABLE t (id int PRIMARY KEY)")
        installer(database).install([T], reader=name)
        reader = database.connect(user=name).cursor()
        reader.execute("SELECT * FROM pgevents.log, pgevents.installation")
        reader.execute("SELECT * FROM pgevents.prune_v1(), pgevents.emptied, pgevents.retention")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.execute("DELETE FROM pgevents.log")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            reader.execute("TRUNCATE pgevents.log_0")


def test_what_is_missing_is_named_with_its_remedy(database: Database) -> None:
    with role(database, "app") as app:
        database.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with pytest.raises(InstallError, match=f"'{app}'.*--reader {app}"):
            installer(database, user=app).install([T])
        installer(database).install([])
        database.execute(f"GRANT USAGE ON SCHEMA pgevents TO {app}; GRANT pgevents_owner TO {app}")
        with pytest.raises(InstallError, match=r'owner of public\.t.*GRANT TRIGGER ON "public"\."t" TO'):
            installer(database, user=app).install([T])
        database.execute(f"GRANT TRIGGER ON t TO {app}")
        assert installer(database, user=app).install([T]).complete


def test_who_may_not_look_is_told_how_to_be_let_in(database: Database) -> None:
    with role(database, "app") as app:
        database.execute("CREATE TABLE t (id int PRIMARY KEY)")
        parameters = database.connect(user=app).get_dsn_parameters()
        with pytest.raises(ConnectionLost, match=r"\. Run: flask pgevents install$"):
            read_position(Connection(parameters, 5).execute)
        installer(database).install([T])
        for look in (installer(database, user=app).status, installer(database, user=app).install):
            with pytest.raises(InstallError, match=f"'{app}' may not read.*permission denied.*--reader {app}`"):
                look([T])
        with pytest.raises(ConnectionLost, match=r"permission denied.*--reader ROLE`"):
            read_position(Connection(parameters, 5).execute)


def test_a_role_that_is_dropped_while_it_looks_has_no_name(database: Database) -> None:
    """What went wrong is told nevertheless."""
    with role(database, "app") as app:
        connection = database.connect(user=app)
    assert Installer._role(connection) == "?"
