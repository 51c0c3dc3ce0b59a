"""S1, S2, S4: only what is exposed, only its columns, only to those who may, in whatever form it would leave."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from pgevents_push import PGEvents
from pgevents_push.errors import ExposureError
from tests.fixtures.house import House
from tests.fixtures.watch import Watch, canary
from tests.fixtures.web import Answer, Frame, Stream
from tests.fixtures.ws_client import StrictClient


def without_date(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    return answer.status, {name: value for name, value in answer.headers.items() if name != "date"}, answer.body


def test_s01_of_fifty_captured_tables_one_streams(house: House, connect: Callable[..., StrictClient]) -> None:
    for n in range(50):
        house.sql(f"CREATE TABLE t{n} (id int PRIMARY KEY, secret text)")
        house.events.on_insert(f"public.t{n}")(lambda event: None)
    house.sql("CREATE VIEW v AS SELECT * FROM t1; CREATE SCHEMA other; CREATE TABLE other.docs (id int PRIMARY KEY)")
    house.events.expose("docs", columns=["id", "title"], public=True)
    site = house.open()
    names = [f"t{n}" for n in range(50)] + ["v", "DOCS", "Docs", "other.docs", "pgevents.log", "pgevents.revoked"]
    names += ["pg_catalog.pg_authid", "no_such_table", "docs ", "public.t1", '"docs', "docs.id", "T1"]
    answers = {name: site.ask(f"/pgevents/stream?table={quote(name)}") for name in names}
    nothing = without_date(answers["no_such_table"])
    assert nothing[0] == 404
    assert [name for name, answer in answers.items() if without_date(answer) != nothing] == []
    socket = connect(site)
    said = [socket.subscribe(table=name) for name in names]
    assert {json.dumps(answer) for answer in said} == {json.dumps(said[0])}
    assert said[0]["code"] == 404
    stream = site.stream("table=docs")
    stream.next("ready")
    for n in range(50):
        house.sql(f"INSERT INTO t{n} VALUES (1, '{canary('unexposed')}')")
    house.sql("INSERT INTO docs VALUES (1, 'seen', %s)", canary("column"))
    assert stream.changes(1)[0].data["table"] == "docs"


def test_s01_a_column_that_is_added_while_streaming_stays_hidden(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    house.events.expose("docs", columns=["id", "title"], public=True)
    site = house.open()
    stream, socket = site.stream("table=docs"), connect(site)
    stream.next("ready")
    assert socket.subscribe(table="docs")["type"] == "ready"
    house.sql("ALTER TABLE docs ADD later text")
    house.sql("INSERT INTO docs VALUES (1, 'a', %s, %s)", canary("column"), canary("later"))
    house.sql("UPDATE docs SET later = %s", canary("later"))
    house.sql("UPDATE docs SET title = 'b', later = %s", canary("later"))
    house.sql("DELETE FROM docs")
    kinds = [frame.name for frame in stream.changes(3)]
    assert kinds == ["insert", "update", "delete"]
    assert [socket.message()["type"] for _ in range(3)] == kinds


def test_s01_exposing_to_nobody_in_particular_fails_at_start() -> None:
    events = PGEvents()
    with pytest.raises(ExposureError, match=r"give authorize=… or rls=… \(who may stream it\) or public=True"):
        events.expose("docs", columns=["id"])
    for table in ("pgevents.log", "pgevents.spent", "pgevents.revoked"):
        with pytest.raises(ExposureError, match="never exposed"):
            events.expose(table, columns="*", public=True)


HIDEABLE = ("a", "B c", "d", "e")


def test_s02_hidden_columns_are_in_no_byte_whatever_is_exposed(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    chance, shown = random.Random(7), dict[str, set[str]]()
    for table in (f"r{n}" for n in range(8)):
        house.sql(f'CREATE TABLE {table} (id int, a text, "B c" text, d text, e text, PRIMARY KEY (id, a))')
        shown[table] = set(chance.sample(("id", *HIDEABLE), chance.randint(1, 4)))
        house.events.expose(table, columns=sorted(shown[table]), public=True)
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open()
    stream = site.stream("&".join(f"table={table}" for table in (*shown, "docs")))
    stream.next("ready")
    socket = connect(site)
    for table in (*shown, "docs"):
        socket.subscribe(table, table=table)
    for table, columns in shown.items():
        write(house, table, columns)
        hidden = next(name for name in ("id", *HIDEABLE) if name not in columns)
        refused = site.ask(f"/pgevents/stream?table={table}&columns={quote(hidden)}")
        unknown = site.ask(f"/pgevents/stream?table={table}&columns=nosuch")
        assert refused.body.replace(repr(hidden).encode(), b"'nosuch'") == unknown.body
    house.sql("INSERT INTO docs (id) VALUES (1)")  # behind all that, so what comes before it is all there is
    changes = [frame.data for frame in until_docs(stream)]
    assert {change["table"] for change in changes} == {*shown, "docs"}
    for change in changes[:-1]:
        seen = {*change["pk"], *(change["row"] or ()), *(change["old"] or ()), *change["changed"]}
        assert seen <= shown[change["table"]]
    sent = iter(socket.message, None)
    assert [next(m for m in sent if m["type"] != "sync")["id"] for _ in changes] == [change["id"] for change in changes]


def until_docs(stream: Stream) -> Iterator[Frame]:
    for frame in stream:
        if frame.name != "sync":
            yield frame
            if frame.data["table"] == "docs":
                return


def write(house: House, table: str, shown: set[str]) -> None:
    """Insert, update and delete rows that have a canary in each hidden column."""

    def value(name: str) -> str:
        return f"seen {name}" if name in shown else canary(f"{table}.{name}")

    house.sql(f"INSERT INTO {table} VALUES (1, %s, %s, %s, %s)", *map(value, HIDEABLE))
    for name in HIDEABLE:
        house.sql(f'UPDATE {table} SET "{name}" = %s', value(name) + " again")
    house.sql(f"UPDATE {table} SET id = 2")
    house.sql(f"DELETE FROM {table}")


def test_s02_what_an_error_says_holds_no_hidden_value(
    house: House, connect: Callable[..., StrictClient], watch: Watch
) -> None:
    """Also not what the app's own function says when it fails, to the client at least."""
    house.sql("INSERT INTO docs VALUES (1, 'a', %s)", "hidden-value")

    def may_see(subscription: object) -> bool:
        raise LookupError("hidden-value")

    house.events.expose("docs", columns=["id"], authorize=may_see)
    site = house.open()
    assert site.ask("/pgevents/stream?table=docs").status == 403
    assert connect(site).subscribe(table="docs")["code"] == 403
    assert b"hidden-value" not in watch.bytes


def test_s04_who_may_not_see_a_table_gets_no_byte_of_its_deletes(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    house.sql("CREATE TABLE news (id int PRIMARY KEY)")
    house.events.expose("news", columns=["id"], public=True)
    house.events.expose("docs", columns=["id", "title"], authorize=lambda asked: house.user() == "ann")
    site = house.open()
    stream, socket = site.stream("table=news", X_User="bob"), connect(site, headers="X-User: bob\r\n")
    stream.next("ready")
    assert socket.subscribe(table="docs")["code"] == 403
    assert socket.subscribe(table="news")["type"] == "ready"
    assert site.ask("/pgevents/stream?table=news&table=docs", X_User="bob").status == 403
    house.sql("INSERT INTO docs VALUES (1, %s, 'x')", canary("foreign"))
    house.sql("UPDATE docs SET title = %s", canary("foreign"))
    house.sql("DELETE FROM docs; INSERT INTO news VALUES (1)")
    assert stream.changes(1)[0].data["table"] == "news"
    change = next(m for m in iter(socket.message, None) if m["type"] != "sync")
    assert change["table"] == "news"
