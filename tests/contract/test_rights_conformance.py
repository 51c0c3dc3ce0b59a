"""Filters, rights, row-level security, caps, revocations, lives, snapshots and long resumes, over every server and both
ways to its clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.raw_stream import RawStream
from tests.fixtures.worlds import CASES, World, Writing, names_of, world_of

APP = "tests.fixtures.rights_app:app"
SETTINGS: dict[str, Any] = {"max_connections_per_identity": 3, "history_bytes": 0}
SCHEMA = """
CREATE TABLE docs (id int PRIMARY KEY, owner text, title text, secret text DEFAULT 'canary');
CREATE TABLE notes (id int PRIMARY KEY, owner text, title text);
CREATE ROLE {role} NOLOGIN;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON notes FOR SELECT TO {role} USING (owner = current_setting('app.person', true));
GRANT SELECT ON notes TO {role}
"""
INSERT = "INSERT INTO {} (id, owner, title) VALUES (%s, %s, %s)"


@pytest.fixture(scope="module", params=CASES, ids=names_of)
def running(request: pytest.FixtureRequest, server: Any) -> Iterator[World]:
    name, handed = request.param
    with world_of(server, name, handed, APP, SCHEMA, **SETTINGS) as world:
        yield world


@pytest.fixture
def world(running: World) -> Iterator[World]:
    yield running
    running.close()
    running.database.execute("TRUNCATE docs, notes")
    running.clean()


def insert(world: World, table: str, number: int, owner: str, title: str = "t") -> None:
    world.database.execute(INSERT.format(table), number, owner, title)


@pytest.mark.parametrize("table", ["docs", "notes"])
def test_each_gets_what_is_theirs_in_order(world: World, table: str) -> None:
    """A row that is given away is one less for the one, and one more for the other."""
    ann, bob = (world.stream(f"table={table}", X_User=name).ready() for name in ("ann", "bob"))
    few = world.stream(f"table={table}&filter=title=eq.b", X_User="ann").ready()
    world.until(connections=3, handed_over=3 if world.handed else 0)
    for number in range(20):
        insert(world, table, number, "ann" if number % 2 else "bob", "ab"[number % 4 // 2])
    world.database.execute(f"UPDATE {table} SET owner = 'bob' WHERE id = 1")
    insert(world, table, 99, "ann", "b")
    ann.changes(12)
    assert ann.ids == [*range(1, 20, 2), 1, 99]
    assert [event.name for event in ann.seen] == ["insert"] * 10 + ["delete", "insert"]
    bob.changes(11)
    assert bob.ids == [*range(0, 20, 2), 1]
    assert {event.name for event in bob.seen} == {"insert"}
    few.changes(6)
    assert few.ids == [*range(3, 20, 4), 99]
    for stream in (ann, bob, few):
        assert "canary" not in str(stream.events)


def test_rows_that_postgresql_judges_are_not_overtaken_by_others(world: World) -> None:
    both = world.stream("table=notes&table=orders", X_User="ann").ready()
    for number in range(15):
        insert(world, "notes", number, "ann" if number % 3 else "bob")
        world.insert(number)
    both.changes(25)
    expected = [(table, n) for n in range(15) for table in ("notes", "orders") if table == "orders" or n % 3]
    assert [(event.data["table"], event.data["pk"]["id"]) for event in both.seen] == expected


def test_streams_that_come_while_rows_are_judged_get_everything_once(world: World) -> None:
    with Writing(lambda number: insert(world, "notes", number, "ann")) as writing:
        streams = [_reading(world) for _ in range(3)]
    for stream in streams:
        stream.changes(writing.last - stream.ids[0] + 1)
        assert stream.ids == list(range(stream.ids[0], writing.last + 1))
    world.until(handed_over=3 if world.handed else 0)


def _reading(world: World) -> RawStream:
    stream = world.stream("table=notes", X_User="ann").ready()
    stream.until(lambda: len(stream.seen) >= 5)
    return stream


def test_who_is_revoked_is_told_and_ended_and_nobody_else(world: World) -> None:
    ann, bob = (world.stream("table=docs", X_User=name).ready() for name in ("ann", "bob"))
    world.until(connections=2)
    began = time.monotonic()
    world.serving.get("/revoke/ann")
    ann.end()
    assert time.monotonic() - began < 1
    assert (ann.names[-1], ann.events[-1].data["reason"], ann.finished) == ("bye", "revoked", True)
    insert(world, "docs", 1, "bob")
    bob.changes(1)


def test_places_are_counted_and_given_back(world: World) -> None:
    streams = [world.stream("table=docs", X_User="ann").ready() for _ in range(3)]
    refused = world.stream("table=docs", X_User="ann")
    refused.until(lambda: refused.status)
    assert refused.status == 429
    world.stream("table=docs", X_User="bob").ready()
    streams[0].close()
    world.until(connections=3)
    world.stream("table=docs", X_User="ann").ready()


def test_a_snapshot_and_what_comes_after_it_is_everything_once(world: World) -> None:
    for number in range(40):
        insert(world, "docs", number, "ann" if number % 2 else "bob")
    stream = world.stream("table=docs&snapshot=1", X_User="ann")
    for number in range(40, 60):
        insert(world, "docs", number, "ann" if number % 2 else "bob")
    stream.ready()
    world.until(handed_over=1 if world.handed else 0)
    insert(world, "docs", 61, "ann")
    stream.until(lambda: stream.ids[-1:] == [61])
    rows = [row["pk"]["id"] for event in stream.events if event.name == "snapshot" for row in event.data["rows"]]
    assert [*rows, *stream.ids] == [*range(1, 60, 2), 61]


def test_a_long_absence_is_made_up_out_of_the_log_before_the_stream_is_live(world: World) -> None:
    stream = world.stream("table=docs&table=orders", X_User="ann").ready()
    insert(world, "docs", 1, "ann")
    since = stream.changes(1)[0].id
    stream.close()
    world.database.execute("INSERT INTO orders (id) SELECT generate_series(1, 2500)")
    back = world.stream("table=docs&table=orders", since=since, X_User="ann")
    for number in range(2, 30):
        insert(world, "docs", number, "ann")
    back.changes(2528)
    assert back.events[0].data["resumed"] is True
    assert back.ids == [*range(1, 2501), *range(2, 30)]
    world.until(handed_over=1 if world.handed else 0)


# --- The same over a WebSocket


def headers(name: str) -> dict[str, str]:
    return {"headers": f"X-User: {name}\r\n"}


@pytest.mark.parametrize("table", ["docs", "notes"])
def test_each_socket_gets_what_is_theirs_in_order(world: World, table: str) -> None:
    ann, bob = world.talk(**headers("ann")), world.talk(**headers("bob"))
    for one in (ann, bob):
        one.live(table=table)
    world.until(connections=2, handed_over=2 if world.handed else 0)
    for number in range(20):
        insert(world, table, number, "ann" if number % 2 else "bob")
        if number % 5 == 0:
            ann.live(f"few {number}", table=table, filter="title=eq.b")
    world.database.execute(f"UPDATE {table} SET owner = 'bob' WHERE id = 1")
    insert(world, table, 99, "ann", "b")
    ann.until(lambda: 99 in ann.ids())
    assert ann.ids() == [*range(1, 20, 2), 1, 99]
    bob.changes(11)
    assert bob.ids() == [*range(0, 20, 2), 1]
    ann.until(lambda: all(ann.ids(f"few {number}")[-1:] == [99] for number in range(0, 20, 5)))
    world.until(handed_over=2 if world.handed else 0)
    for one in (ann, bob):
        assert "canary" not in str(one.told)


def test_sockets_that_come_and_change_while_rows_are_judged_get_everything_once(world: World) -> None:
    with Writing(lambda number: insert(world, "notes", number, "ann")) as writing:
        client = world.talk(**headers("ann"))
        client.live(table="notes")
        for number in range(10):
            client.live(f"other {number}", table="notes")
            client.ask()
            client.send({"type": "unsubscribe", "ref": f"other {number}"})
    client.until(lambda: writing.last in client.ids())
    assert client.ids() == list(range(client.ids()[0], writing.last + 1))
    for number in range(10):
        extra = client.ids(f"other {number}")
        assert not extra or extra == list(range(extra[0], extra[0] + len(extra)))
    world.until(connections=1, handed_over=1 if world.handed else 0)


def test_whose_sockets_are_revoked_is_told_and_nobody_else(world: World) -> None:
    ann, silent, bob = world.talk(**headers("ann")), world.talk(**headers("ann")), world.talk(**headers("bob"))
    ann.live(table="docs")
    bob.live(table="docs")
    world.until(connections=3)
    world.serving.get("/revoke/ann")
    assert ann.last_words() == silent.last_words() == 4403
    insert(world, "docs", 1, "bob")
    bob.changes(1)
    world.until(connections=1)


def test_places_of_sockets_are_counted_and_given_back(world: World) -> None:
    clients = [world.talk(**headers("ann")) for _ in range(3)]
    clients[0].live(table="docs")
    assert world.talk(**headers("ann")).status == 429
    for number in (0, 1):
        clients[number].close()
        world.until(connections=2 - number)
    world.talk(**headers("ann")).live(table="docs")
