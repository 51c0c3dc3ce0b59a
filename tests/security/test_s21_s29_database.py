"""S21 to S29: what a database role without rights can do, and what a cursor or a cache can not."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote as percent

import psycopg2.errors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.capture.render import function_name
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import Hub, View
from pgevents_push.hub.sight import Sight
from pgevents_push.testing import make_event
from pgevents_push.transports import sse_format, ws_protocol
from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.roles import role
from tests.fixtures.watch import canary
from tests.fixtures.web import Site
from tests.fixtures.ws_client import StrictClient

CAPTURE = function_name(TableName("public", "docs"))


@pytest.fixture
def site(house: House) -> Site:
    house.events.expose("docs", columns=["id"], public=True)
    return house.open()


@pytest.fixture
def mallory(house: House, site: Site) -> Iterator[Any]:
    """Somebody who may log in, and nothing else."""
    with role(house.database, "mallory") as name:
        yield house.database.connect(user=name)


def test_s21_forged_rings_make_no_change(house: House, site: Site, mallory: Any) -> None:
    stream = site.stream("table=docs")
    stream.next("ready")
    forged = '{"id":"1","type":"insert","schema":"public","table":"docs","pk":{"id":666},"row":{"id":666}}'
    cursor = mallory.cursor()
    for _ in range(500):
        cursor.execute("SELECT pg_notify('pgevents', %s), pg_notify('pgevents_docs', %s)", [forged, forged])
    house.sql("INSERT INTO docs VALUES (1)")
    assert stream.next("insert", "update", "delete", "truncate").data["pk"] == {"id": 1}


def test_s22_whoever_listens_along_hears_a_ring_and_no_more(house: House, site: Site, mallory: Any) -> None:
    mallory.cursor().execute("LISTEN pgevents")
    heard = list[Any]()

    def rang() -> bool:
        house.sql("INSERT INTO docs SELECT coalesce(max(id), 0) + 1, 'a', %s FROM docs", canary("column"))
        mallory.poll()
        heard.extend(mallory.notifies)
        mallory.notifies.clear()
        return len(heard) >= 3

    wait_until(rang, 20)
    assert {(notice.channel, notice.payload) for notice in heard} == {("pgevents", "")}


def test_s23_a_listener_is_never_idle_in_a_transaction(house: House, site: Site) -> None:
    """Such a session would keep PostgreSQL from emptying the queue of notifications, and at last fail all commits."""
    states, stop = set[str](), threading.Event()

    def look() -> None:
        cursor = house.database.connect().cursor()
        while not stop.wait(0.001):
            cursor.execute("SELECT state FROM pg_stat_activity WHERE usename = %s", [house.role])
            states.update(state for (state,) in cursor.fetchall())

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(300):
        house.sql("INSERT INTO docs VALUES (%s)", number)
    stop.set()
    looking.join()
    assert states <= {"idle", "active"}
    assert "idle" in states
    assert house.sql("SELECT pg_notification_queue_usage()") == [(0.0,)]


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM pgevents.log",
     "INSERT INTO pgevents.log (schema_name, table_name, type, pk) VALUES ('a', 'b', 'i', '{}')",
     "TRUNCATE pgevents.log", "SELECT * FROM pgevents.spent", "DELETE FROM pgevents.spent",
     f"SELECT pgevents.{CAPTURE}()", "SELECT pgevents.tidy_v1()", "SELECT pgevents.prune_v1()",
     "SELECT pgevents.revoke_v1('ann')", "SELECT pgevents.spend_v1('x')", "CREATE TABLE pgevents.mine ()"],
)  # fmt: skip
def test_s24_nobody_touches_what_is_ours(mallory: Any, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        mallory.cursor().execute(statement)


@pytest.mark.parametrize(
    "statement",
    ["INSERT INTO pgevents.log (schema_name, table_name, type, pk) VALUES ('a','b','i','{}')", "TRUNCATE pgevents.log",
     "DELETE FROM pgevents.spent", "SELECT * FROM pgevents.spent", "CREATE TABLE pgevents.mine ()",
     "SELECT * FROM docs"],
)  # fmt: skip
def test_s24_the_app_reads_the_log_and_no_more(house: House, site: Site, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        house.database.connect(user=house.role).cursor().execute(statement)


def test_s25_our_functions_run_nobody_elses_code(house: House, site: Site) -> None:
    rows = house.sql(
        "SELECT p.proname, p.proconfig, p.proacl::text, r.rolsuper, r.rolcanlogin"
        " FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner"
        " WHERE p.pronamespace = 'pgevents'::regnamespace AND p.prosecdef"
    )
    assert {CAPTURE, "make_capture_v1", "tidy_v1", "prune_v1", "revoke_v1", "spend_v1"} <= {row[0] for row in rows}
    for name, set_to, rights, is_superuser, may_log_in in rows:
        assert "search_path=pg_catalog, pg_temp" in set_to, name
        assert "{=X" not in rights, name
        assert ",=X" not in rights, name
        assert (is_superuser, may_log_in) == (False, False), name


@pytest.mark.parametrize("function", ["clock_timestamp()", "json_build_object(text, text)", "coalesce_trap()"])
def test_s25_what_the_caller_puts_in_the_way_is_not_called(house: House, site: Site, function: str) -> None:
    """As the app's own role, which may call them: a function in a schema of its own, and one in pg_temp."""
    cursor = house.database.connect(user=house.role).cursor()
    house.sql(f"CREATE SCHEMA trap AUTHORIZATION {house.role}; GRANT TEMP ON DATABASE {house.database.name} TO PUBLIC")
    for place in ("trap", "pg_temp"):
        cursor.execute(
            f"CREATE FUNCTION {place}.{function} RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'trapped as %', current_user; END $$"
        )
    cursor.execute("CREATE TEMP TABLE spent (number text, at timestamptz); CREATE TEMP TABLE log (id int)")
    cursor.execute("SET search_path = pg_temp, trap, pg_catalog")
    cursor.execute("SELECT pgevents.revoke_v1('ann'), pgevents.spend_v1('x'), pgevents.spend_v1('x')")
    assert cursor.fetchall() == [("", True, False)]


def test_s26_a_write_that_cannot_be_captured_is_refused_and_says_why(house: House, site: Site) -> None:
    """Nothing is lost silently: the writer decides, and uninstalling is one command."""
    house.sql("ALTER TABLE pgevents.log RENAME TO elsewhere")
    with pytest.raises(psycopg2.errors.UndefinedTable, match=r"pgevents\.log") as refused:
        house.sql("INSERT INTO docs VALUES (1)")
    assert f"pgevents.{CAPTURE}()" in str(refused.value)
    house.sql("ALTER TABLE pgevents.elsewhere RENAME TO log")
    house.sql("INSERT INTO docs VALUES (1)")


def test_s27_the_log_has_no_row_of_a_table_that_nobody_declared(house: House, site: Site, mallory: Any) -> None:
    """Of those that are declared it has whole rows, for those who may read it, and for as long as it keeps them."""
    house.sql("CREATE TABLE private (id int PRIMARY KEY, body text)")
    house.sql("INSERT INTO private VALUES (1, 'private words'); UPDATE private SET body = 'others'")
    house.sql("INSERT INTO docs VALUES (1, 'a', 'b')")
    assert house.sql("SELECT DISTINCT table_name FROM pgevents.log") == [("docs",)]
    assert house.sql("SELECT count(*) FROM pgevents.log AS l WHERE l::text LIKE '%%words%%'") == [(0,)]
    for (slot,) in house.sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'pgevents.log'::regclass"
    ):
        for someone in (mallory, house.database.connect(user=house.role)):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                someone.cursor().execute(f"SELECT * FROM {slot}")
    assert house.sql("SELECT seconds <= 3600 FROM pgevents.retention") == [(True,)]


# --- S28

HOSTILE = [
    "", "0", "-1", "9" * 4000, "~", "::", "a~1:1:", "a~9999999999:9999999999:", "a~5:1:", "a~1:5:9,9,9",
    "' OR 1=1 --", "%00", "\u00e9", "../../etc/passwd", "x\r\nSet-Cookie: a=b", "a~1:2:~1:2:~1", "\ud7ff",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_s28_a_cursor_that_is_none_is_a_gap_and_never_an_error(house: House, site: Site, text: str) -> None:
    streams = [site.stream(f"table=docs&lastEventId={percent(text)}")]
    if text.isascii() and "\r" not in text:
        streams.append(site.stream("table=docs", Last_Event_ID=text))
    for stream in streams:
        assert stream.response.status == 200
        assert stream.response.headers["Set-Cookie"] is None
        assert stream.next("ready").data["resumed"] is False
        if text:
            assert stream.next("gap", "sync").data == {"reason": "cursor"}


def test_s28_a_cursor_of_this_epoch_that_was_tampered_with(house: House, site: Site) -> None:
    real = site.stream("table=docs").next("ready").id
    epoch, _, rest = real.partition("~")
    house.sql("INSERT INTO docs VALUES (1, 'a', 'b')")
    for text in (
        f"{epoch}~1:1:", f"{epoch}~1:999999999:", f"{epoch}~999999999:999999999:", f"{real}~", f"{real}9",
        f"{epoch}~{rest[:-1]}", f"{epoch[::-1]}~{rest}", f"{epoch}~0:0:", f"{epoch}~{2**64}:{2**64}:",
    ):  # fmt: skip
        stream = site.stream(f"table=docs&lastEventId={text}")
        assert stream.response.status == 200
        ready = stream.next("ready")
        assert ready.data["resumed"] or stream.next("gap").data["reason"] in ("cursor", "epoch", "retention", "schema")


def test_s28_the_cursor_of_somebody_else_shows_what_oneself_may_see(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    house.sql("CREATE TABLE news (id int PRIMARY KEY)")
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id", "title"], authorize=lambda asked: asked.identity == "ann")
    house.events.expose("news", columns=["id"], public=True)
    site = house.open()
    stream = site.stream("table=docs,news", X_User="ann")
    anns = stream.next("ready").id
    stream.close()
    house.sql("INSERT INTO docs VALUES (1, %s, 'x'); INSERT INTO news VALUES (1)", canary("foreign"))
    assert site.ask(f"/pgevents/stream?table=docs&lastEventId={anns}", X_User="bob").status == 403
    socket = connect(site, headers="X-User: bob\r\n")
    assert socket.subscribe(table="docs", since=anns)["code"] == 403
    stream = site.stream(f"table=news&lastEventId={anns}", X_User="bob")
    assert stream.next("ready").data["resumed"] is True
    assert stream.changes(1)[0].data["table"] == "news"


# --- S29

names = st.text(st.sampled_from('a_.,:"\\~\0\n'), min_size=1, max_size=4)
views = st.builds(
    View,
    st.builds(TableName, names, names),
    st.frozensets(st.sampled_from(CHANGE_TYPES), min_size=1),
    st.none() | st.frozensets(names, max_size=3),
    st.none() | st.frozensets(names, max_size=3),
    st.sampled_from([sse_format.encode_json, sse_format.encode_message, ws_protocol.encode_change]),
    names,
)


@settings(deadline=None)
@given(st.lists(views, min_size=2, max_size=6), st.data())
def test_s29_each_subscriber_gets_what_its_own_view_shows(found: list[View], data: st.DataObject) -> None:
    """Whatever separators the names hold: what is shared is keyed by values, never by texts that were joined."""
    hub = Hub()
    hub.publish([], "abcd~1:1:")
    mailboxes = []
    for view in found:
        mailboxes.append(hub.connect(10**6))
        assert hub.subscribe(mailboxes[-1], [view], 0)
    tables = sorted({view.table for view in found})
    events = [_event(data.draw(st.sampled_from(tables)), number, data) for number in range(4)]
    hub.publish(events, "abcd~2:2:")
    for view, mailbox in zip(found, mailboxes, strict=True):
        own = [Sight(event, Counter()).frame(view) for event in events if event.table_name == view.table]
        assert mailbox.take(0) == [frame for frame in own if frame is not None]


def _event(table: TableName, number: int, data: st.DataObject) -> ChangeEvent:
    row = data.draw(st.dictionaries(names, names, max_size=3))
    event = make_event("x", data.draw(st.sampled_from(["insert", "delete"])), pk={"id": number}, row=row)
    return event.replace(schema=table.schema, table=table.name, cursor=f"abcd~2:2:~{number}")
