"""PostgreSQL's own row-level security decides: on the row before and after a change, as the subscriber's role."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, abort, request

from pgevents_push.cursor import Snapshot
from pgevents_push.errors import RowSecurityError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.extension.row_security import RowSecurity
from pgevents_push.hub import Definition, Hub, Pending, Persona, Sight, View
from pgevents_push.hub.columns import read_columns
from pgevents_push.listener import Connection, read_shape, read_xmax
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.views import encode, seen
from tests.fixtures.watchers import WATCHERS, Asked, Item, Watcher
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]
SETTINGS = {"PGEVENTS_HEARTBEAT_SECONDS": 0.2, "PGEVENTS_MAX_ROW_BYTES": 2000}
NOTES = TableName("public", "Team Notes")

TABLES = """
CREATE TABLE members (team int, person text, PRIMARY KEY (team, person));
CREATE TABLE "Team Notes" (
    id int PRIMARY KEY, team int, body text, price numeric, tags text[], at timestamptz DEFAULT '2026-01-01', raw json,
    secret text DEFAULT 'canary-secret'
);
INSERT INTO members VALUES (1, 'ann'), (2, 'bob'), (2, 'ann''s "twin"');
ALTER TABLE "Team Notes" ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON "Team Notes" FOR SELECT TO {web} USING (
    EXISTS (SELECT FROM members m WHERE m.team = "Team Notes".team AND m.person = current_setting('app.person', true))
);
CREATE POLICY no_drafts ON "Team Notes" AS RESTRICTIVE TO {web} USING (body NOT LIKE 'draft%');
CREATE POLICY writers ON "Team Notes" FOR INSERT TO {web} WITH CHECK (true);
GRANT SELECT ON members TO {web};
GRANT SELECT (id, team, body, price, tags, at, raw) ON "Team Notes" TO {web};
"""


@pytest.fixture
def web(database: Database) -> Iterator[str]:
    """The role of web users, with a name that has to be quoted."""
    name = f"Web {uuid.uuid4().hex[:8]}"
    database.execute(f'CREATE ROLE "{name}" NOLOGIN')
    database.execute(TABLES.format(web=f'"{name}"'))
    yield name
    database.execute(f'DROP OWNED BY "{name}"')
    database.execute(f'DROP ROLE "{name}"')


def in_shop(make_shop: MakeShop, web: str, **settings: Any) -> Shop:
    def as_whom(subscription: Any) -> Any:
        person = request.headers.get("X-User") or abort(401)
        return {"role": web, "settings": {"app.person": person}} if person != "nobody" else None

    shop = make_shop(**{**SETTINGS, **settings})
    shop.events.expose(f'"{NOTES.name}"', columns=["id", "body", "price"], rls=as_whom)
    return shop.register().start()


Watch = Callable[..., Watcher]


@pytest.fixture(params=WATCHERS, ids=lambda kind: kind.kind)
def watch(request: pytest.FixtureRequest, make_shop: MakeShop, web: str, serve: Serve) -> Iterator[Watch]:
    site = serve(in_shop(make_shop, web).app)
    opened: list[Watcher] = []

    def open_watcher(user: str, *filters: str, since: str | None = None, snapshot: bool = False) -> Watcher:
        opened.append(request.param(site.port, Asked(f'"{NOTES.name}"', user, filters, since=since, snapshot=snapshot)))
        if not opened[-1].ended and not snapshot:
            opened[-1].until("ready", "error")
        return opened[-1]

    yield open_watcher
    for watcher in opened:
        watcher.close()


def short(items: list[Item]) -> list[tuple[str, int]]:
    return [(item.name, item.data["pk"]["id"]) for item in items]


def rows_of(watcher: Watcher) -> list[dict[str, Any]]:
    """What was shown before `ready`."""
    rows: list[dict[str, Any]] = []
    while (item := next(watcher)).name == "snapshot":
        rows += item.data["rows"]
    assert item.name == "ready", item
    return rows


KILL = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgevents_push' AND datname = %s
"""
NOTE = 'INSERT INTO "Team Notes" (id, team, body) VALUES'


def test_a_snapshot_has_what_the_policies_let_through(watch: Watch, database: Database) -> None:
    database.execute(f"{NOTE} (1, 1, 'one'), (2, 2, 'two'), (3, 1, 'draft canary'), (4, NULL, 'canary')")
    long = "x" * 3000  # over PGEVENTS_MAX_ROW_BYTES
    database.execute(f"{NOTE} (5, 1, 'five'), (6, 1, '{long}')")
    ann, bob, eve = (watch(user, snapshot=True) for user in ("ann", "bob", "eve"))
    assert rows_of(ann) == [
        {"pk": {"id": 1}, "row": {"id": 1, "body": "one", "price": None}},
        {"pk": {"id": 5}, "row": {"id": 5, "body": "five", "price": None}},
        {"pk": {"id": 6}, "row": None, "truncated": True},
    ]
    assert [row["pk"]["id"] for row in rows_of(bob)] == [2]
    assert rows_of(eve) == []
    assert [row["pk"]["id"] for row in rows_of(watch("ann", "id=gt.1", "id=lt.6", snapshot=True))] == [5]
    database.execute("""UPDATE "Team Notes" SET team = 2 WHERE id = 1""")
    assert short(ann.changes(1)) == [("delete", 1)]
    assert short(bob.changes(1)) == [("insert", 1)]
    for watcher in (ann, bob, eve):
        assert b"canary" not in watcher.raw


def test_no_snapshot_once_nothing_is_restricted(watch: Watch, database: Database) -> None:
    database.execute(f"{NOTE} (1, 1, 'canary')")
    watch("ann").close()
    database.execute("""ALTER TABLE "Team Notes" DISABLE ROW LEVEL SECURITY""")
    watcher = watch("ann", snapshot=True)
    with pytest.raises((StopIteration, AssertionError)):
        rows_of(watcher)
    assert b"canary" not in watcher.raw


def test_each_sees_what_the_policies_let_through(watch: Watch, database: Database) -> None:
    ann, bob, stranger = watch("ann"), watch("bob"), watch("eve")
    database.execute(f"{NOTE} (1, 1, 'canary-one'), (2, 2, 'canary-two'), (3, 1, 'draft canary'), (4, NULL, 'canary')")
    database.execute("""UPDATE "Team Notes" SET price = 5 WHERE id < 4""")
    database.execute("""UPDATE "Team Notes" SET body = 'canary-published' WHERE id = 3""")
    database.execute("""UPDATE "Team Notes" SET team = 2 WHERE id = 1""")
    database.execute("""UPDATE "Team Notes" SET body = 'draft' WHERE id = 2""")
    database.execute("""DELETE FROM "Team Notes" """)
    database.execute("""TRUNCATE "Team Notes" """)
    assert short(ann.changes(5)) == [("insert", 1), ("update", 1), ("insert", 3), ("delete", 1), ("delete", 3)]
    assert short(bob.changes(5)) == [("insert", 2), ("update", 2), ("insert", 1), ("delete", 2), ("delete", 1)]
    for watcher in (ann, bob, stranger):
        assert watcher.changes(1)[0].name == "truncate"
        assert b"canary-secret" not in watcher.raw
        assert b"team" not in watcher.raw.lower().replace(b"team notes", b"").replace(b"team%20notes", b"")
    assert b"canary-two" not in ann.raw
    assert b"canary-published" not in bob.raw
    assert b"canary" not in stranger.raw
    assert b"draft" not in ann.raw + bob.raw


def test_the_row_in_the_log_is_judged_and_not_the_one_in_the_table(watch: Watch, database: Database) -> None:
    """By the time that it is asked, the row has moved on, or is gone."""
    ann, bob = watch("ann"), watch("bob")
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute(f"{NOTE} (1, 1, 'a')")
        cursor.execute("""UPDATE "Team Notes" SET team = 2, body = 'canary-b'""")
        cursor.execute("""DELETE FROM "Team Notes" """)
    assert short(ann.changes(2)) == [("insert", 1), ("delete", 1)]
    assert short(bob.changes(2)) == [("insert", 1), ("delete", 1)]
    assert b"canary-b" not in ann.raw


def test_filters_narrow_what_the_policies_let_through(watch: Watch, database: Database) -> None:
    dear = watch("ann", "price=gt.5")
    values = "(1, 1, 'a', 9), (2, 1, 'a', 3), (3, 2, 'a', 9)"
    database.execute(f"""INSERT INTO "Team Notes" (id, team, body, price) VALUES {values}""")
    database.execute("""UPDATE "Team Notes" SET price = 12 - price""")
    assert short(dear.changes(3)) == [("insert", 1), ("delete", 1), ("insert", 2)]


def test_who_comes_back_is_judged_as_who_it_is_now(watch: Watch, database: Database) -> None:
    ann = watch("ann")
    ann.close()
    database.execute(f"{NOTE} (1, 1, 'canary-one'), (2, 2, 'two')")
    back, bob = watch("ann", since=ann.cursor), watch("bob", since=ann.cursor)
    assert short(back.changes(1)) == [("insert", 1)]
    assert short(bob.changes(1)) == [("insert", 2)]
    assert b"canary" not in bob.raw


def test_a_new_policy_counts_at_once(watch: Watch, database: Database, web: str) -> None:
    ann = watch("ann")
    database.execute(f'CREATE POLICY more ON "Team Notes" FOR SELECT TO "{web}" USING (team = 2)')
    database.execute(f"{NOTE} (1, 2, 'a')")
    assert short(ann.changes(1)) == [("insert", 1)]
    database.execute('DROP POLICY more ON "Team Notes"')
    database.execute(f"{NOTE} (2, 2, 'a'), (3, 1, 'a')")
    assert short(ann.changes(1)) == [("insert", 3)]


def test_what_cannot_be_judged_is_a_gap(
    watch: Watch, database: Database, web: str, caplog: pytest.LogCaptureFixture
) -> None:
    ann = watch("ann")
    database.execute(f"{NOTE} (1, 2, repeat('canary-large', 1000))")
    assert ann.until("gap").data["reason"] == "overflow"
    database.execute(f'CREATE POLICY broken ON "Team Notes" FOR SELECT TO "{web}" USING (1 / (price * 0) = 1)')
    database.execute("""INSERT INTO "Team Notes" (id, team, body, price) VALUES (2, 2, 'canary', 5)""")
    assert ann.until("gap").data["reason"] == "schema"
    assert "cannot be judged" in caplog.text
    assert "canary" not in caplog.text
    database.execute('DROP POLICY broken ON "Team Notes"')
    database.execute(f"{NOTE} (3, 1, 'a')")
    assert short(ann.changes(1)) == [("insert", 3)]
    assert b"canary" not in ann.raw


def test_where_no_policy_lets_anything_through_nothing_is_seen(watch: Watch, database: Database) -> None:
    database.execute('DROP POLICY mine ON "Team Notes"')
    ann = watch("ann")
    database.execute(f"{NOTE} (1, 1, 'canary')")
    database.execute('TRUNCATE "Team Notes"')
    assert ann.changes(1)[0].name == "truncate"
    assert b"canary" not in ann.raw


def test_switched_off_under_a_stream_it_shows_nothing(watch: Watch, database: Database) -> None:
    ann = watch("ann")
    database.execute('ALTER TABLE "Team Notes" DISABLE ROW LEVEL SECURITY')
    database.execute(f"{NOTE} (1, 2, 'canary')")
    assert ann.until("gap").data["reason"] == "schema"
    assert b"canary" not in ann.raw
    assert watch("ann").ended == "403"


def test_one_without_a_persona_is_refused(watch: Watch) -> None:
    assert watch("nobody").ended == "403"
    assert watch("").ended == "401"


# --- Wrong set-ups


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"role": "no such role"}, "PostgreSQL refuses it"),
        ({"role": "none"}, "no role: 'none'"),
        ({"role": "postgres"}, "restricts nothing for 'postgres'"),
        ({"role": "{web}", "settings": {"search_path": "evil"}}, "a setting 'search_path'"),
        ({"role": "{web}", "settings": {"app.person": None}}, "a value of app.person"),
        ({"role": "{web}", "extra": 1}, "dict instead of"),
        ("{web}", "str instead of"),
        (True, "bool instead of"),
    ],
)
def test_a_persona_that_restricts_nothing_is_denied_and_says_why(
    make_shop: MakeShop, serve: Serve, web: str, answer: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = json.loads(json.dumps(answer).replace("{web}", web))
    shop = make_shop(**SETTINGS)
    shop.events.expose(f'"{NOTES.name}"', columns=["id"], rls=lambda subscription: answer)
    site = serve(shop.register().start().app)
    for kind in WATCHERS:
        watcher = kind(site.port, Asked(f'"{NOTES.name}"'))
        assert not [item for item in watcher if item.name != "error"]
        assert watcher.ended == "403"
        watcher.close()
    assert why in caplog.text


def test_columns_that_the_role_may_not_read_are_refused(
    make_shop: MakeShop, serve: Serve, web: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = make_shop(**SETTINGS)
    shop.events.expose(f'"{NOTES.name}"', columns=["id", "secret"], rls=lambda subscription: {"role": web})
    site = serve(shop.register().start().app)
    answer = site.ask(f"/pgevents/stream?table=%22{NOTES.name.replace(' ', '%20')}%22")
    assert answer.status == 403
    assert "may not SELECT the columns" in caplog.text


@pytest.mark.parametrize(
    ("columns", "then"),
    [
        ("*", "ALTER TABLE kept ADD secret text DEFAULT 'canary'"),
        (["id", "body"], "REVOKE {readers} FROM {web}"),
    ],
    ids=["one is added", "a role is left"],
)
def test_columns_that_the_role_may_not_read_any_more_are_not_shown(
    make_shop: MakeShop, serve: Serve, database: Database, web: str, columns: Any, then: str
) -> None:
    """Under a stream that is open."""
    shop = make_shop(**SETTINGS)
    shop.events.expose("kept", columns=columns, rls=lambda subscription: {"role": web})
    with role(database, "readers") as readers:
        database.execute(f"""
            CREATE TABLE kept (id int PRIMARY KEY, body text);
            ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
            CREATE POLICY p ON kept FOR SELECT TO "{web}" USING (true);
            GRANT SELECT (id) ON kept TO "{web}";
            GRANT SELECT (body) ON kept TO "{readers}";
            GRANT "{readers}" TO "{web}";
        """)
        site = serve(shop.register().start().app)
        stream = site.stream("table=kept")
        assert stream.next().name == "ready"
        database.execute("INSERT INTO kept (id, body) VALUES (1, 'a')")
        assert stream.changes(1)[0].data["row"] == {"id": 1, "body": "a"}
        database.execute(then.format(web=f'"{web}"', readers=f'"{readers}"'))
        database.execute("INSERT INTO kept (id, body) VALUES (2, 'canary')")
        found = stream.next("insert", "gap")
        assert (found.name, found.data) == ("gap", {"reason": "schema"})
        wait_until(lambda: site.ask("/pgevents/stream?table=kept", "HEAD").status == 403)


def test_a_table_with_a_virtual_generated_column_is_refused(
    make_shop: MakeShop, serve: Serve, database: Database, web: str, caplog: pytest.LogCaptureFixture
) -> None:
    [[version]] = database.execute("SELECT current_setting('server_version_num')::int")
    kind = "VIRTUAL" if version >= 180000 else "STORED"
    database.execute(f"""
        CREATE TABLE sums (id int PRIMARY KEY, half int GENERATED ALWAYS AS (id / 2) {kind});
        ALTER TABLE sums ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON sums FOR SELECT TO "{web}" USING (half IS NULL);
        GRANT SELECT ON sums TO "{web}";
    """)
    shop = make_shop(**SETTINGS)
    shop.events.expose("sums", columns=["id"], rls=lambda subscription: {"role": web})
    answer = serve(shop.register().start().app).ask("/pgevents/stream?table=sums", "HEAD")
    assert answer.status == (403 if kind == "VIRTUAL" else 200)
    assert ("virtual generated column" in caplog.text) is (kind == "VIRTUAL")


# --- Order, cost and cleanliness


class World:
    """The table, and judged changes of it without a server around."""

    def __init__(self, database: Database, web: str) -> None:
        self.database, self.web = database, web
        self.user: dict[str, str] = {}
        self.connections: list[Connection] = []
        self.security = RowSecurity(self.connect)
        execute = self.connect().execute
        shape = read_shape(execute, NOTES)
        self.definition = Definition(read_columns(execute, NOTES), shape, Snapshot(1, 1), read_xmax(execute))

    def connect(self) -> Connection:
        self.connections.append(Connection({**self.database.dsn, **self.user}, 10))
        return self.connections[-1]

    def pending(self, event: ChangeEvent, **settings: str) -> Pending:
        persona = Persona.of({"role": self.web, "settings": settings})
        mark = self.definition.mark(None)
        exposed = frozenset(("id", "body", "price"))
        view = View(NOTES, frozenset(CHANGE_TYPES), None, exposed, encode, mark=mark, persona=persona)
        return Pending(Sight(event, Hub().counts), view, persona)

    def event(self, number: int, team: int, body: str = "a") -> ChangeEvent:
        row = {**dict.fromkeys(self.definition.columns), "id": number, "team": team, "body": body}
        return ChangeEvent(
            id=str(number), type="insert", schema="public", table=NOTES.name, tx="1", last=True, at_text="", cursor="c",
            pk_json=json.dumps({"id": number}), row_json=json.dumps(row),
        )  # fmt: skip

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


@pytest.fixture
def world(database: Database, web: str) -> Iterator[World]:
    made = World(database, web)
    yield made
    made.close()


def test_after_a_thousand_checks_the_session_is_as_it_was(world: World) -> None:
    """S33: values with quotes and worse are values; role and settings end with each transaction."""
    poison = ["ann", "bob", "x'; RESET ROLE; --", 'ann\'s "twin"', "\\", "{}", "$$", "%s%(role)s", "é\n"]
    statement = "SELECT current_user, session_user, current_setting('app.person', true), current_setting('role')"
    before = world.database.execute("SELECT current_user")[0][0]
    for number in range(1000):
        person = poison[number % len(poison)]
        one = world.pending(world.event(number, 1 + number % 2), **{"app.person": person})
        world.security.answer([one])
        team = {"ann": 1, "bob": 2, 'ann\'s "twin"': 2}.get(person)
        assert (one.frame is not None) is (team == 1 + number % 2), person
    assert len(world.connections) == 2
    [(current, session, setting, role)] = world.connections[-1].execute(statement)
    assert (current, session, role) == (before, before, "none")
    assert setting in ("", None)


def test_a_persona_is_asked_once_for_all_that_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    real = Connection.execute

    def counting(self: Connection, statement: str, parameters: Any = None) -> Any:
        statements.append(statement)
        return real(self, statement, parameters)

    monkeypatch.setattr(Connection, "execute", counting)
    world.security.answer([])
    people = [{"app.person": "ann"}, {"app.person": "bob"}]
    pending = [world.pending(world.event(n, n % 3), **person) for n in range(50) for person in people]
    statements.clear()
    world.security.answer(pending)
    found = [seen(one.frame)["pk"]["id"] for one in pending if one.frame]
    assert found == [n for n in range(50) for person in ("ann", "bob") if n % 3 == (1 if person == "ann" else 2)]
    assert sum("json_populate_record" in statement for statement in statements) == 2
    assert sum("pg_policy" in statement for statement in statements) == 1


@pytest.mark.parametrize(
    ("team", "then"),
    [
        (2, [f"RENAME {old} TO {new}" for old, new in (("id", "x"), ("team", "id"), ("x", "team"))]),
        (1, ["ADD hidden bool DEFAULT true"]),
    ],
    ids=["renamed", "added"],
)
def test_what_is_altered_before_it_is_judged_is_a_gap(world: World, team: int, then: list[str]) -> None:
    """A slow policy keeps others waiting. Policies follow a column that is renamed; the log does not."""
    before, behind = (world.pending(world.event(1, team), **{"app.person": "ann"}) for _ in range(2))
    world.security.answer([before])
    assert (before.frame is None) is (team == 2)
    for change in then:
        world.database.execute(f'ALTER TABLE "Team Notes" {change}')
    if "hidden" in then[0]:
        policy = f'CREATE POLICY hidden ON "Team Notes" AS RESTRICTIVE TO "{world.web}" USING (hidden IS NOT TRUE)'
        world.database.execute(policy)
    world.security.answer([behind])
    assert seen(behind.frame) == {"gap": "schema"}


def test_our_own_role_needs_no_more_than_to_be_a_member(world: World) -> None:
    """S34: nothing works only because tests run as a superuser."""
    with role(world.database, "app") as app:
        world.user = {"user": app}
        with pytest.raises(RowSecurityError, match=r"permission denied to set role .* be a member of it"):
            world.security.verify(Persona(world.web), NOTES, ["id"])
        world.database.execute(f'GRANT "{world.web}" TO "{app}"')
        world.security.verify(Persona(world.web), NOTES, ["id"])
        pending = [world.pending(world.event(n, n), **{"app.person": "ann"}) for n in (1, 2)]
        world.security.answer(pending)
        assert [one.frame is not None for one in pending] == [True, False]
        own = "SELECT usename::text, usesuper FROM pg_user WHERE usename = current_user"
        assert world.connections[-1].execute(own) == [(app, False)]
        world.security.close()


def test_the_owner_of_a_table_is_no_persona(world: World) -> None:
    with role(world.database, "owner") as owner:
        world.database.execute(f'ALTER TABLE "Team Notes" OWNER TO "{owner}"')
        with pytest.raises(RowSecurityError, match="restricts nothing"):
            world.security.verify(Persona(owner), NOTES, ["id"])
        world.database.execute('ALTER TABLE "Team Notes" FORCE ROW LEVEL SECURITY')
        world.security.verify(Persona(owner), NOTES, ["id"])
        world.database.execute('ALTER TABLE "Team Notes" OWNER TO CURRENT_USER')


def test_what_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(RowSecurityError, match='role "pg_no_such_role" does not exist'):
        world.security.verify(Persona("pg_no_such_role"), NOTES, ["id"])
    with pytest.raises(RowSecurityError, match="there is no table"):
        world.security.verify(Persona(world.web), TableName("public", "absent"), [])


KINDS = """
    CREATE TYPE mood AS ENUM ('glad', 'Sad Day');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN short AS varchar(5);
    CREATE TABLE kinds (
        id int PRIMARY KEY, big bigint, price numeric, ratio float8, small real, word varchar(9), fixed char(5),
        flag boolean, day date, clock time, at timestamptz, local timestamp, span interval, key uuid,
        bin bytea, raw json, doc jsonb,
        mood mood, pair pair, short short, list int[], grid text[], during tstzrange, net inet, bits bit varying
    );
    INSERT INTO kinds VALUES (
        0, 9007199254740993, 1.500, 0.1, 0.1, 'é"\\', 'ab', true,
        '0044-03-15 BC', '24:00', '2026-01-01 12:00:00.123456+02', '-infinity', '-1 mon +2 days 03:04:05.6',
        '00000000-0000-0000-0000-000000000001', '\\x00ff', '{"a":  1.0, "a": [null]}', '{"b": 1.00}',
        'Sad Day', '(1,"x,""y")', 'abc', '{1,NULL,3}', '{{a,"b,c"},{NULL,"NULL"}}', '[2026-01-01,)', '10.0.0.1/8', '101'
    );
    ALTER TABLE kinds ENABLE ROW LEVEL SECURITY;
    -- Sees the table's own row, whoever asks.
    CREATE FUNCTION same(kinds) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS
        $$ SELECT $1 *= k FROM kinds AS k WHERE k.id = $1.id $$;
"""


def test_every_type_comes_back_out_of_the_log_as_it_was(
    make_shop: MakeShop, serve: Serve, database: Database, web: str
) -> None:
    """A policy that compares the row that it is asked about with the one in the table sees no difference."""
    database.execute(KINDS)
    database.execute(f'GRANT SELECT ON kinds TO "{web}"; CREATE POLICY same ON kinds TO "{web}" USING (same(kinds))')
    shop = make_shop(**SETTINGS)
    shop.events.expose("kinds", columns=["id"], rls=lambda subscription: {"role": web})
    stream = serve(shop.register().start().app).stream("table=kinds")
    assert stream.next().name == "ready"
    columns = database.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'kinds'::regclass AND attnum > 1")
    others = ", ".join(f'"{name}"' for (name,) in columns)
    database.execute(f"INSERT INTO kinds (id, {others}) SELECT 1, {others} FROM kinds")
    database.execute("INSERT INTO kinds (id, raw, doc) VALUES (2, '1', '1')")  # their nulls: see below
    assert [frame.data["pk"]["id"] for frame in stream.changes(2)] == [1, 2]


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        # of ("a", "b" json, "c" jsonb): both SQL's null, both JSON's, the latter mixed with either, and neither
        ("c IS NULL", ["gap", "gap", "gap", "gap", None]),
        ("c IS NOT NULL", ["gap", "gap", "gap", "gap", "insert"]),
        ("(b IS NULL) = (c IS NULL)", ["gap", "gap", "gap", "gap", "insert"]),
        ("b IS NULL AND c IS NOT NULL", ["gap", "gap", "gap", "gap", None]),
        ("odd.c ? 'ann' OR seen(odd)", [None, None, None, None, "insert"]),
        ("EXISTS (SELECT FROM other AS o WHERE o.a = odd.a)", ["insert"] * 5),
    ],
)
def test_a_null_that_may_be_jsons_is_not_taken_for_sqls(
    make_shop: MakeShop, serve: Serve, database: Database, web: str, policy: str, found: list[str | None]
) -> None:
    """JSON's null IS NOT NULL, but in the log they are alike: SQLAlchemy writes the one, and most others the other."""
    database.execute(f"""
        CREATE TABLE odd (a int PRIMARY KEY, gone int, b json, c jsonb);
        ALTER TABLE odd DROP gone;
        CREATE TABLE other (a int);
        INSERT INTO other VALUES (1);
        GRANT SELECT ON other TO PUBLIC;
        CREATE FUNCTION seen(odd) RETURNS boolean LANGUAGE sql AS $$ SELECT $1.a IS NULL $$;
        ALTER TABLE odd ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON odd TO "{web}";
        CREATE POLICY p ON odd FOR SELECT TO "{web}" USING ({policy});
    """)
    shop = make_shop(**SETTINGS)
    shop.events.expose("odd", columns=["a"], rls=lambda subscription: {"role": web})
    stream = serve(shop.register().start().app).stream("table=odd")
    assert stream.next().name == "ready"
    values = ["NULL, NULL", "'null', 'null'", "NULL, 'null'", "'null', NULL", """'1', '{"ann": 1}'"""]
    for value, name in zip(values, found, strict=True):
        database.execute(f"INSERT INTO odd VALUES (1, {value})")
        database.execute("TRUNCATE odd")
        frames = [stream.next("insert", "gap", "truncate")]
        while frames[-1].name != "truncate":
            frames.append(stream.next("insert", "gap", "truncate"))
        assert [frame.name for frame in frames[:-1]] == ([name] if name else []), value
        assert all(frame.data["reason"] == "schema" for frame in frames if frame.name == "gap")


def test_the_order_is_kept_and_nobody_else_waits(
    make_shop: MakeShop, serve: Serve, database: Database, web: str
) -> None:
    """A slow policy holds up who depends on it, and not the listener or another table."""
    database.execute("CREATE TABLE quick (id int PRIMARY KEY)")
    database.execute(f"""
        CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN true; END $$;
        CREATE POLICY slow ON "Team Notes" AS RESTRICTIVE FOR SELECT TO "{web}" USING (slow());
    """)
    shop = make_shop(**SETTINGS)
    shop.events.expose("quick", columns="*", public=True)
    ann = {"role": web, "settings": {"app.person": "ann"}}
    shop.events.expose(f'"{NOTES.name}"', columns=["id"], rls=lambda subscription: ann)
    site = serve(shop.register().start().app)
    quick, both = site.stream("table=quick"), site.stream(f"table=quick,%22{NOTES.name.replace(' ', '%20')}%22")
    assert (quick.next().name, both.next().name) == ("ready", "ready")
    arrived: list[str] = []

    def hear(stream: Any, count: int, name: str) -> None:
        for frame in stream.changes(count):
            arrived.append(f"{name} {frame.data['table']}")

    threads = [threading.Thread(target=hear, args=arguments) for arguments in ((quick, 2, "quick"), (both, 3, "both"))]
    for thread in threads:
        thread.start()
    database.execute("INSERT INTO quick VALUES (1)")
    database.execute(f"{NOTE} (1, 1, 'a')")
    database.execute("INSERT INTO quick VALUES (2)")
    for thread in threads:
        thread.join(15)
    assert [line for line in arrived if line.startswith("both")] == ["both quick", f"both {NOTES.name}", "both quick"]
    assert arrived.index(f"both {NOTES.name}") > arrived.index("quick quick", arrived.index("quick quick") + 1)


def test_a_killed_connection_costs_nobody_a_change(watch: Watch, database: Database) -> None:
    ann = watch("ann")
    for number in range(1, 6):
        database.execute(KILL, database.name)
        database.execute(f"{NOTE} ({number}, 1, 'a')")
        assert short(ann.changes(1)) == [("insert", number)]
