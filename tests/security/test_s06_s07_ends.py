"""S6, S7: who loses rights loses the stream, in every process; and nobody keeps one for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from flask import request

from pgevents_push.errors import ConfigurationError, ConnectionLost
from pgevents_push.extension.captured import Captured
from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.servers import Serving
from tests.fixtures.watch import Watch
from tests.fixtures.web import Frame, Stream
from tests.fixtures.ws_client import StrictClient


class Reader(threading.Thread):
    """Reads a stream to its end and notes when each frame came."""

    def __init__(self, port: int, user: str) -> None:
        super().__init__(daemon=True)
        self.stream = Stream(port, "/pgevents/stream?table=docs", {"X-User": user})
        self.process = int(self.stream.response.headers["X-Process"])
        self.user, self.frames = user, list[tuple[float, Frame]]()
        assert self.stream.response.status == 200
        self.frames.append((time.time(), self.stream.next("ready")))
        self.start()

    def run(self) -> None:
        for frame in self.stream:
            self.frames.append((time.time(), frame))

    def leave(self) -> None:
        self.stream.connection.sock.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.stream.close()

    def titles(self) -> list[str]:
        return [frame.data["row"]["title"] for _, frame in self.frames if frame.name == "insert"]

    def at(self, title: str) -> float:
        """When a row with this title was inserted, as far as this reader knows; 0: it has not heard of it."""
        inserted = [(at, frame.data["row"]["title"]) for at, frame in self.frames if frame.name == "insert"]
        return next((at for at, found in inserted if found == title), 0.0)

    def bye(self) -> tuple[float, str]:
        found = [(at, frame.data["reason"]) for at, frame in self.frames if frame.name == "bye"]
        return found[0] if found else (0.0, "")


def in_each_process(stack: ExitStack, server: Serving, port: int, user: str) -> list[Reader]:
    """Open streams of a user until each worker has one."""
    readers: list[Reader] = []
    while {reader.process for reader in readers} != server.pids:
        assert len(readers) < 100, "one worker takes everything"
        readers.append(Reader(port, user))
        stack.callback(readers[-1].leave)
    return readers


def test_s06_a_revoked_identity_is_shown_out_of_every_process_within_a_second(
    serve_doors: Callable[..., Serving], database: Database, watch: Watch
) -> None:
    workers = serve_doors()
    port = watch.front(workers.ports[0])
    with ExitStack() as stack:
        anns, bobs = (in_each_process(stack, workers, port, user) for user in ("ann", "bob"))
        stop, written = threading.Event(), [0]
        writer = threading.Thread(target=write, args=[database, stop, written])
        writer.start()
        stack.callback(stop.set)
        wait_until(lambda: all(len(reader.titles()) > 20 for reader in (*anns, *bobs)))
        with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO banned VALUES ('ann')")
            cursor.execute("SELECT pgevents.revoke_v1('ann')")
            cursor.execute("INSERT INTO docs VALUES (-1, 'no longer for ann')")
        revoked = time.time()
        wait_until(lambda: all(reader.bye()[1] == "revoked" for reader in anns))
        latest = max(reader.bye()[0] for reader in anns) - revoked
        wait_until(lambda: all(reader.at("no longer for ann") for reader in bobs))
        others = min(reader.at("no longer for ann") for reader in bobs) - revoked  # what the machine takes for a change
        print(f"{len(anns)} streams in two processes were ended within {latest * 1000:.0f} ms")
        assert latest < 1.0 + others
        seen = len(bobs[0].titles())
        wait_until(lambda: all(len(reader.titles()) > seen + 20 for reader in bobs))
        stop.set()
        writer.join()
        wait_until(lambda: all(len(reader.titles()) == written[0] + 1 for reader in bobs))
        assert [reader.bye()[1] for reader in bobs] == [""] * len(bobs)
        order = bobs[0].titles()
        last = order.index("no longer for ann")
        for reader in anns:
            assert set(reader.titles()) <= set(order[:last]), "a change that was committed after it reached ann"
        assert status(port, "ann") == 403
        database.execute("DELETE FROM banned")
        assert status(port, "ann") == 200


def status(port: int, user: str) -> int:
    stream = Stream(port, "/pgevents/stream?table=docs", {"X-User": user})
    stream.close()
    return stream.response.status


def write(database: Database, stop: threading.Event, written: list[int]) -> None:
    cursor = database.connect().cursor()
    while not stop.wait(0.002):
        cursor.execute("INSERT INTO docs VALUES (%s, %s)", [written[0], f"doc {written[0]}"])
        written[0] += 1


def test_s06_revoke_reaches_the_other_process_and_the_socket(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id"], authorize=lambda asked: asked.identity is not None)
    here, there = house.open(), house.open()
    streams = [site.stream("table=docs", X_User=user) for site in (here, there) for user in ("ann", "bob")]
    sockets = [connect(site, headers=f"X-User: {user}\r\n") for site in (here, there) for user in ("ann", "bob")]
    for stream in streams:
        stream.next("ready")
    assert [socket.subscribe(table="docs")["type"] for socket in sockets] == ["ready"] * 4
    with house.apps[0].app_context():
        house.events.revoke("ann")
    for number in (0, 2):
        assert streams[number].next("bye").data["reason"] == "revoked"
        assert sockets[number].close_code() == 4403
    house.sql("INSERT INTO docs VALUES (1)")
    for number in (1, 3):
        assert streams[number].changes(1)[0].data["pk"] == {"id": 1}
        assert next(m for m in iter(sockets[number].message, None) if m["type"] != "sync")["pk"] == {"id": 1}
    assert here.stream("table=docs", X_User="ann").next("ready")  # authorised anew, and welcome


def test_s06_who_is_revoked_while_authorize_runs_gets_nothing(house: House) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def may_see(subscription: object) -> bool:
        asked.set()
        return go_on.wait(10)  # it has looked, and says yes

    house.events.identify(house.user)
    house.events.expose("docs", columns=["id"], authorize=may_see)
    site = house.open()
    opened: list[Stream] = []
    opening = threading.Thread(target=lambda: opened.append(site.stream("table=docs", X_User="ann")))
    opening.start()
    assert asked.wait(10)
    with house.apps[0].app_context():
        house.events.revoke("ann")
    go_on.set()
    opening.join(10)
    house.sql("INSERT INTO docs VALUES (1)")
    assert [frame.name for frame in opened[0]] == ["bye"]


def test_s06_who_is_revoked_before_a_process_has_heard_anything_is_shown_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has just begun reads no change from before its first position, but lets callers in already."""
    revoked = threading.Event()

    def may_see(asked: object) -> bool:
        if not revoked.is_set():
            house.sql("SELECT pgevents.revoke_v1('ann')")
            revoked.set()
        return True

    house.events.identify(house.user)
    house.events.expose("docs", columns=["id"], authorize=may_see)
    prepare = Captured.prepare

    def wait_first(self: Captured) -> None:
        assert revoked.wait(10)
        prepare(self)

    site = house.open()
    monkeypatch.setattr(Captured, "prepare", wait_first)
    app = house.apps[0]
    house.events.stop(app)
    house.runtime()._stopped = False
    house.events.start(app)
    assert site.stream("table=docs", X_User="ann").next("ready", "bye").data.get("reason") == "revoked"
    assert site.stream("table=docs", X_User="ann").next("ready", "bye").name == "ready"


def test_s06_without_the_database_this_process_obeys_and_says_that_others_do_not_know(house: House) -> None:
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id"], public=True)
    stream = house.open().stream("table=docs", X_User="ann")
    stream.next("ready")
    house.sql(f"ALTER ROLE {house.role} NOLOGIN")
    house.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", house.role)
    with house.apps[0].app_context(), pytest.raises(ConnectionLost):
        house.events.revoke("ann")
    assert stream.next("bye").data["reason"] == "revoked"


def test_s06_nobody_else_may_revoke(house: House) -> None:
    """Also not by writing what looks like it."""
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open()
    stream = site.stream("table=docs", X_User="ann")
    stream.next("ready")
    house.sql("CREATE TABLE public.revoked (identity text PRIMARY KEY)")
    house.sql("CREATE ROLE mallory_s06 LOGIN; GRANT ALL ON revoked, docs TO mallory_s06")
    try:
        mallory = house.database.connect(user="mallory_s06").cursor()
        for statement in (
            "SELECT pgevents.revoke_v1('ann')",
            "INSERT INTO pgevents.log (schema_name, table_name, type, pk)"
            " VALUES ('pgevents', 'revoked', 'i', '{\"identity\":\"ann\"}')",
            "SELECT pgevents.spend_v1('x')",
            "INSERT INTO pgevents.spent VALUES ('x')",
        ):
            with pytest.raises(Exception, match="permission denied"):
                mallory.execute(statement)
        mallory.execute("INSERT INTO revoked VALUES ('ann'); NOTIFY pgevents, '{\"identity\":\"ann\"}'")
        mallory.execute("INSERT INTO docs VALUES (1)")
    finally:
        house.sql("DROP OWNED BY mallory_s06; DROP ROLE mallory_s06")
    assert stream.next("insert", "bye").name == "insert"


@pytest.mark.parametrize("identity", ["", 7, None])
def test_s06_what_is_no_identity_is_said_and_not_ignored(house: House, identity: str) -> None:
    house.open()
    with house.apps[0].app_context(), pytest.raises(ConfigurationError, match="takes the text"):
        house.events.revoke(identity)


def test_s06_any_text_is_an_identity(house: House) -> None:
    name = 'Zo\u00eb "O\'Neil"\\ \n\u2028; DROP TABLE docs --'
    house.events.identify(lambda: name)
    house.events.expose("docs", columns=["id"], public=True)
    here, there = house.open(), house.open()
    streams = [here.stream("table=docs"), there.stream("table=docs")]
    for stream in streams:
        stream.next("ready")
    with house.apps[1].app_context():
        house.events.revoke(name)
    assert [stream.next("bye").data["reason"] for stream in streams] == ["revoked", "revoked"]


# --- S7


def test_s07_a_stream_ends_in_time_and_its_return_is_judged_anew(
    house: House, connect: Callable[..., StrictClient]
) -> None:
    def token_is_good(asked: object) -> bool:
        return time.time() < float(request.headers["X-Token"])

    house.events.expose("docs", columns=["id"], authorize=token_is_good)
    site = house.open(PGEVENTS_MAX_STREAM_SECONDS=2)
    expires = time.time() + 3
    stream = site.stream("table=docs", X_Token=str(expires))
    socket = connect(site, headers=f"X-Token: {expires}\r\n")
    stream.next("ready")
    assert socket.subscribe(table="docs")["type"] == "ready"
    bye = stream.next("bye")
    assert (bye.data["reason"], [*stream]) == ("lifetime", [])
    assert socket.close_code() == 1012
    assert time.time() < expires + 5
    wait_until(lambda: time.time() > expires)
    assert site.ask("/pgevents/stream?table=docs", X_Token=str(expires)).status == 403


def test_s07_nothing_is_missed_over_many_short_lives(house: House) -> None:
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open(PGEVENTS_MAX_STREAM_SECONDS=0.4, PGEVENTS_RETRY_SECONDS=0)
    stop, written = threading.Event(), [0]
    writer = threading.Thread(target=write, args=[house.database, stop, written])
    writer.start()
    got, cursor, lives = list[int](), "", 0
    try:
        while lives < 8:
            stream = site.stream("table=docs", **({"Last_Event_ID": cursor} if cursor else {}))
            first = stream.next("ready")
            assert first.data["resumed"] is bool(cursor)
            for frame in stream:
                assert frame.name in ("insert", "sync", "bye")
                cursor = frame.id or cursor
                got += [frame.data["pk"]["id"]] if frame.name == "insert" else []
            lives += 1
    finally:
        stop.set()
        writer.join()
    assert len(got) > 100
    assert got == list(range(got[0], got[0] + len(got)))
