"""S11, S12, S13: no name, row or header breaks out of a frame, a line of the log or a statement."""

from __future__ import annotations

import http.client
import json
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote as percent

import pytest

from pgevents_push.capture import quote
from pgevents_push.config import Config
from pgevents_push.errors import PGEventsError
from pgevents_push.event import TableName
from tests.fixtures.capture import installer
from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.watch import MARK, Watch
from tests.fixtures.web import Site
from tests.fixtures.ws_client import StrictClient

# What SSE, JSON, HTTP or a terminal gives a meaning; PostgreSQL has no NUL and no surrogates in text.
NASTY = [
    "a\nb", "a\r\nb", "a\rb", "\n\ndata: {}\n\n", "\r\nevent: bye\r\ndata: {}\r\n\r\n", "id: 1\nretry: 1\n\n",
    "\u2028\u2029\x85",
    '"}\n\n', "\\n\\r", ": comment\n", "\x1b[2J\x07", "\ufeffdata: x", "\U0001f600\u202e", "</script>", "a\x0bb\x0c",
]  # fmt: skip


def events_in(raw: bytes) -> list[tuple[str, str]]:
    """Name and data of each event, read as the HTML standard says ("Interpretation of event streams")."""
    found, name, data = [], "message", list[str]()
    for line in re.split("\r\n|\r|\n", raw.decode("utf-8")):
        key, _, value = line.partition(":")
        if line == "":
            found += [(name, "\n".join(data))] if data else []
            name, data = "message", []
        elif key == "data":
            data.append(value.removeprefix(" "))
        elif key == "event":
            name = value.removeprefix(" ")
    return found


def raw_stream(site: Site, query: str) -> Callable[[bytes], bytes]:
    """Open a stream; return what reads its body until something was in it."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.request("GET", f"/pgevents/stream?{query}")
    answer, seen = connection.getresponse(), bytearray()
    assert answer.status == 200

    def until(end: bytes) -> bytes:
        while end not in seen:
            seen.extend(answer.readline())
        seen.extend(answer.readline())
        connection.close()
        answer.close()
        return bytes(seen)

    return until


def test_s11_whatever_is_written_is_one_event(house: House) -> None:
    names = ["plain", "T\r\nevent: bye", "new\nline", 'q"uote', "colon: x"]
    for name in names:
        house.sql(f'CREATE TABLE {quote(name)} (id text PRIMARY KEY, "c\nol" text, j json)')
        house.events.expose(f"public.{quote(name)}", columns=["id", "c\nol", "j"], public=True)
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open()
    query = "&".join(f"table={percent(f'public.{quote(name)}')}" for name in names)
    until = raw_stream(site, f"{query}&table=docs")
    wait_until(lambda: house.runtime().hub._audiences)
    for name in names:
        for text in NASTY:
            spread = json.dumps({text: [text]}, indent=2).replace("\n", "\r\n")  # a json column keeps its line ends
            house.sql(f"INSERT INTO {quote(name)} VALUES (%s, %s, %s)", text, text, spread)
    house.sql("INSERT INTO docs VALUES (424242)")
    events = [(name, json.loads(data)) for name, data in events_in(until(b"424242"))]
    changes = [data for name, data in events if name == "insert"]
    assert {name for name, _ in events} <= {"ready", "insert", "sync"}
    assert len(changes) == len(names) * len(NASTY) + 1
    expected = [(name, text) for name in names for text in NASTY]
    assert [(change["table"], change["pk"]["id"]) for change in changes[:-1]] == expected
    for change, (_, text) in zip(changes[:-1], expected, strict=True):
        assert change["row"] == {"id": text, "c\nol": text, "j": {text: [text]}}


# --- S12


@pytest.mark.parametrize(
    "text", ["x\n2026-01-01 ERROR fake", "\x1b[2J\x1b[31mred", "x\r\nY: z", "\u2028\u202e\x07", "a" * 5000]
)
def test_s12_each_line_of_the_log_is_ours(
    house: House, watch: Watch, text: str, connect: Callable[..., StrictClient]
) -> None:
    def fails(asked: object) -> bool:
        raise RuntimeError

    house.events.expose("docs", columns=["id"], authorize=fails)
    house.events.expose("public.news", columns=["id"], public=True)
    house.sql("CREATE TABLE news (id int)")
    site = house.open(PGEVENTS_MAX_CONNECTIONS_PER_ADDRESS=4)
    begin = len(watch.lines)
    sent = percent(text)
    for query in (
        f"table={sent}", f"table=docs&events={sent}", f"table=docs&columns={sent}", f"{sent}=1", "table=docs",
        f"table=docs&format={sent}", f"table=news&lastEventId={sent}", f"table=docs&ticket={sent}",
    ):  # fmt: skip
        site.ask(f"/pgevents/stream?{query}", "HEAD")
    header = re.sub(r"[\r\n]", " ", text).encode("utf-8").decode("latin-1")
    for name in ("Origin", "User_Agent", "Last_Event_ID", "Accept", "Sec_Fetch_Site", "Host", "X_Forwarded_For"):
        site.ask("/pgevents/stream?table=docs", "HEAD", **{name: header})
    socket = connect(site)
    for field in ("table", "events", "columns", "since", "ref", text):
        socket.send({"type": "subscribe", "ref": "1", "table": "news", field: text})
        socket.frame()
        if field == "ref":
            break
    site.ask(f"/pgevents/stream?table={sent}", "HEAD")
    ours = [line for line in watch.lines[begin:] if " pgevents_push" in line.split("\n")[0]]
    assert ours
    for line in ours:
        first, *rest = line.split("\n")
        # A traceback of the app's own function is the one thing that has more lines.
        assert not rest or ("authorize for public.docs failed" in first and rest[-1] == "RuntimeError"), line
        assert first.isprintable()
        assert len(first) < 500


def test_s12_the_password_is_shown_nowhere(house: House, watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open()
    runtime = house.runtime()
    shown = [
        repr(thing)
        for thing in (runtime, runtime.config, runtime.database, runtime.gate, Config(database_url=house.url()))
    ]
    house.sql(f"ALTER ROLE {house.role} NOLOGIN")  # from now on each connection fails
    house.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", house.role)
    wait_until(lambda: runtime.status == "reconnecting")
    try:
        runtime.connect()
    except PGEventsError as error:
        shown += [str(error), repr(error.__cause__)]
    answer = site.ask("/pgevents/health")
    assert answer.status == 503
    assert any("not permitted to log in" in text for text in shown)
    assert MARK in house.password
    assert [text for text in shown if MARK in text] == []


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg2://u:{p}@[bad", "nonsense://u:{p}@h/d", "postgresql+psycopg2://u:{p}@127.0.0.1:1/d"]
)
def test_s12_a_wrong_url_is_told_without_its_password(url: str, watch: Watch) -> None:
    from flask import Flask

    from pgevents_push import PGEvents

    app = Flask("x")
    app.config["PGEVENTS_DATABASE_URL"] = url.format(p=f"{MARK}-password")
    app.config["TESTING"] = True
    try:
        events = PGEvents(app)
        events.runtime(app).connect()
    except PGEventsError as error:
        chain: BaseException | None = error
        while chain is not None:
            assert MARK not in str(chain)
            chain = chain.__cause__
        logging.getLogger("pgevents_push").exception("as an app would log it")
    else:
        raise AssertionError("it was taken")


# --- S13

BYTES_62 = "\u00e9" * 31
NAMES = [
    '"', "\"; DROP TABLE docs; --", "Mixed Case", "select", "%s", "%(a)s", "{table}", "back\\slash", "a.b", "'",
    "\u00e9", "e\u0301", BYTES_62 + "a", BYTES_62 + "b", "$pgevents$", "tab\there", "`", "\U0001f600",
]  # fmt: skip


def test_s13_each_name_is_the_table_that_it_says_and_nothing_else(house: House) -> None:
    """The same names in three schemas; installed, streamed and taken back."""
    schemas = ["public", 'S"1', "a.b %s"]
    tables = [TableName(schema, name) for schema in schemas for name in NAMES]
    for schema in schemas[1:]:
        house.sql(f"CREATE SCHEMA {quote(schema)}")
        house.sql(f"GRANT USAGE ON SCHEMA {quote(schema)} TO {house.role}")
    for table in tables:
        house.sql(f"CREATE TABLE {name_of(table)} (id int PRIMARY KEY)")
        house.events.expose(name_of(table), columns=["id"], public=True)
    before = ddl(house)
    site = house.open(PGEVENTS_MAX_SUBSCRIPTIONS=100, PGEVENTS_MAX_QUERY_BYTES=100_000)
    stream = site.stream("&".join(f"table={percent(name_of(table))}" for table in tables))
    assert stream.next("ready").data["tables"] == [str(table) for table in tables]
    for number, table in enumerate(tables):
        house.sql(f"INSERT INTO {name_of(table)} VALUES ({number})")
    changes = [frame.data for frame in stream.changes(len(tables))]
    assert [(change["schema"], change["table"], change["pk"]["id"]) for change in changes] == [
        (table.schema, table.name, number) for number, table in enumerate(tables)
    ]
    stream.close()
    house.close()
    installer(house.database).uninstall(everything=True)
    assert ddl(house) == before


def name_of(table: TableName) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def ddl(house: House) -> list[tuple[Any, ...]]:
    """All tables, triggers and functions outside of PostgreSQL's own schemas."""
    return house.sql(
        "SELECT 'table', n.nspname, relname, relacl::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
        " UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, NULL FROM pg_trigger"
        " UNION ALL SELECT 'function', n.nspname, proname, NULL"
        " FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace"
        " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')"
        " ORDER BY 1, 2, 3"
    )
