"""S33: PostgreSQL's row-level security, in snapshots and in changes: nothing of a role stays, nothing slips out."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote as percent

import pytest

from pgevents_push.capture import quote
from pgevents_push.errors import ConnectionLost
from pgevents_push.event import TableName
from pgevents_push.extension.row_security import RowSecurity
from pgevents_push.hub import Persona
from pgevents_push.listener import Connection
from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.watch import canary
from tests.fixtures.web import Site
from tests.fixtures.ws_client import StrictClient

NOTES = """
CREATE TABLE teams (team int, person text);
INSERT INTO teams VALUES (1, 'ann'), (2, 'bob');
CREATE TABLE notes (id int PRIMARY KEY, team int, body text, secret text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT (id, team, body) ON notes TO {web};
GRANT SELECT ON notes TO {app};
GRANT SELECT ON teams TO {web};
GRANT {web} TO {app};
"""
MINE = "USING (team IN (SELECT t.team FROM public.teams AS t WHERE t.person = current_setting('app.person')))"


@pytest.fixture
def web(house: House) -> Iterator[str]:
    name = f"web_{uuid.uuid4().hex[:8]}"
    house.sql(f"CREATE ROLE {name} NOLOGIN")
    house.sql(NOTES.format(web=name, app=quote(house.role)))
    house.events.identify(house.user)
    persona = {"role": name, "settings": {"app.person": "ann"}}
    house.events.expose(
        "notes", columns=["id", "body"], rls=lambda asked: {**persona, "settings": {"app.person": asked.identity}}
    )
    house.events.expose("teams", columns=["team"], public=True)
    house.sql(f"GRANT SELECT ON teams TO {quote(house.role)}")
    yield name
    house.sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


def document(site: Site, query: str = "table=notes", user: str = "ann") -> tuple[int, Any]:
    answer = site.ask(f"/pgevents/snapshot?{query}", X_User=user)
    return answer.status, json.loads(answer.body).get("rows")


Connect = Callable[..., StrictClient]


def test_s33_a_policy_that_fails_on_a_row_tells_nobody_what_is_in_it(house: House, web: str, connect: Connect) -> None:
    """PostgreSQL's message quotes the value: it is for no log either."""
    house.sql("CREATE POLICY odd ON notes USING (secret::int > 0)")
    site = house.open()
    house.sql("INSERT INTO notes VALUES (1, 1, 'x', %s)", canary("secret"))
    assert document(site) == (503, None)
    assert site.stream("table=notes&snapshot=1", X_User="ann").next("bye").data["reason"] == "failed"
    said = connect(site, headers="X-User: ann\r\n").subscribe(table="notes", snapshot=True)
    assert (said["type"], said["code"]) == ("error", 503)


def test_s33_a_policy_that_calls_a_function_says_the_same_in_a_snapshot_and_of_a_change(house: House, web: str) -> None:
    """One that finds its tables by the search_path, as most are written."""
    house.sql(
        "CREATE FUNCTION may_see(of_team int) RETURNS boolean STABLE LANGUAGE sql AS "
        "$$ SELECT EXISTS (SELECT FROM teams t WHERE t.team = of_team AND t.person = current_setting('app.person')) $$"
    )
    house.sql("CREATE POLICY mine ON notes USING (may_see(team))")
    site = house.open()
    house.sql("INSERT INTO notes VALUES (1, 1, 'x', 's'), (2, 2, %s, 's')", canary("foreign"))
    stream = site.stream("table=notes", X_User="ann")
    stream.next("ready")
    house.sql("INSERT INTO notes VALUES (3, 1, 'y', 's'), (4, 2, %s, 's')", canary("foreign"))
    assert [frame.data["pk"] for frame in stream.changes(1)] == [{"id": 3}]
    status, rows = document(site)
    assert (status, [row["pk"]["id"] for row in rows or ()]) == (200, [1, 3])


@pytest.mark.parametrize("problem", ["raised", "raised with a code", "two rows", "writes"])
def test_s33_a_policy_that_always_fails_ends_it_and_is_in_the_log(
    house: House, web: str, connect: Connect, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not asked for ever, as a database would be that is away for a moment."""
    does = {
        "raised": "RAISE 'not for %', v", "raised with a code": "RAISE 'not for %', v USING ERRCODE = 'MY001'",
        "two rows": "RETURN (SELECT g = 1 FROM generate_series(1, 2) AS g)",
        "writes": "INSERT INTO public.teams VALUES (9, v); RETURN true",
    }  # fmt: skip
    house.sql(
        "CREATE FUNCTION may_see(v text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS"
        f" $$ BEGIN {does[problem]}; END $$"
    )
    house.sql("CREATE POLICY odd ON notes USING (may_see(secret))")
    site = house.open()
    house.sql("INSERT INTO notes VALUES (1, 1, 'x', %s)", canary("secret"))
    assert site.stream("table=notes&snapshot=1", X_User="ann").next("bye").data["reason"] == "failed"
    said = connect(site, headers="X-User: ann\r\n").subscribe(table="notes", snapshot=True)
    assert (said["type"], said["code"]) == ("error", 503)
    assert "The rows of public.notes cannot be read: " in caplog.text


@pytest.mark.parametrize(("style", "seen"), [("ISO, MDY", 1), ("German, DMY", 2)])
def test_s33_a_policy_reads_dates_in_the_same_way_in_a_snapshot_and_of_a_change(
    house: House, web: str, style: str, seen: int
) -> None:
    """Those that are texts: the way is the one that our role has by default."""
    house.sql("CREATE POLICY early ON notes USING (body::date < '2026-03-01' AND body::date::text LIKE '2026-%')")
    house.sql(f"ALTER ROLE {quote(house.role)} SET DateStyle = '{style}'")
    site = house.open()
    house.sql("INSERT INTO notes VALUES (1, 1, '02/12/2026', 's'), (2, 1, '12/02/2026', 's')")
    stream = site.stream("table=notes&snapshot=1", X_User="ann")
    assert [row["pk"]["id"] for row in stream.next("snapshot").data["rows"]] == [seen]
    stream.next("ready")
    house.sql("UPDATE notes SET id = id + 10")
    assert [frame.data["pk"]["id"] for frame in stream.changes(1)] == [seen + 10]


@pytest.mark.parametrize("name", ["{policy}", "{alias}", '%s "{table}"; --'])
def test_s33_a_tables_name_is_no_part_of_the_statement(house: House, web: str, name: str) -> None:
    table = quote(name)
    house.sql(
        f"CREATE TABLE {table} (id int PRIMARY KEY, team int); GRANT SELECT ON {table} TO {web}, {quote(house.role)};"
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON {table} USING ({table}.team = 1)"
    )
    house.events.expose(table, columns=["id"], rls=lambda asked: {"role": web})
    site = house.open()
    house.sql(f"INSERT INTO {table} VALUES (1, 1), (2, 2)")
    assert document(site, f"table={percent(table)}") == (200, [{"pk": {"id": 1}, "row": {"id": 1}}])
    stream = site.stream(f"table={percent(table)}", X_User="ann")
    stream.next("ready")
    house.sql(f"INSERT INTO {table} VALUES (3, 2), (4, 1)")
    assert stream.next("gap", "insert").data["pk"] == {"id": 4}


def test_s33_a_database_that_is_away_for_a_moment_denies_nobody(house: House, web: str) -> None:
    """A browser that is told 403 never comes back."""
    house.sql(f"CREATE POLICY mine ON notes {MINE}")
    site = house.open()
    security = RowSecurity(house.runtime().connect)

    class Killed:
        def execute(self, *args: Any) -> Any:
            raise ConnectionLost("terminating connection due to administrator command")

        def close(self) -> None:
            pass

    killed: Any = Killed
    security._connect = killed
    with pytest.raises(ConnectionLost):
        security.verify(Persona(web, ()), TableName("public", "notes"), ["id"])
    running: Any = house.runtime()._alive()
    running.judging._idle.append(security)
    assert site.ask("/pgevents/stream?table=notes", X_User="ann").status == 503


SESSION = """
    SELECT current_user::text, session_user::text, current_setting('app.person', true), current_setting('search_path'),
           current_setting('row_security'), current_setting('role'), current_setting('enable_seqscan'),
           current_setting('DateStyle'), current_setting('statement_timeout')
"""


def test_s33_nothing_of_a_role_stays_behind_on_a_connection(
    house: House, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One connection reads for whoever stands in line: personas, everybody else, and what fails in between."""
    house.sql(f"CREATE POLICY mine ON notes {MINE}")
    site = house.open(PGEVENTS_MAX_SNAPSHOTS=1)
    house.sql("INSERT INTO notes SELECT n, 1 + n %% 2, 'x', %s FROM generate_series(1, 50) AS n", canary("secret"))
    seen: list[tuple[Any, ...]] = []
    original = Connection.transaction

    def looking(connection: Connection, tables: Any, seconds: float) -> Any:
        seen.append(connection.execute(SESSION)[0])
        return original(connection, tables, seconds)

    monkeypatch.setattr(Connection, "transaction", looking)
    reading = house.runtime().snapshots
    waiting = [
        site.stream(f"table={tables}&snapshot=1", X_User=user)
        for user in ("ann", "bob", "o'neil")
        for tables in ("notes", "teams", "teams&table=notes", "notes&table=teams", "notes&limit=1")
        for _ in range(4)
    ]
    for stream in waiting:
        shown: dict[str, list[int]] = {}
        for frame in iter(lambda stream=stream: stream.next("snapshot", "ready"), None):  # type: ignore[misc]
            if frame.name == "ready":
                break
            shown.setdefault(frame.data["table"], []).extend(row["pk"].get("id", 0) for row in frame.data["rows"])
        assert all(len(shown[table]) == 2 for table in shown if table == "teams")
    wait_until(lambda: reading._at_work == 0)
    assert len(seen) == len(waiting)
    assert {row[:2] for row in seen} == {(house.role, house.role)}
    assert {row[2] for row in seen} <= {None, ""}
    assert len({row[3:] for row in seen}) == 1, seen
