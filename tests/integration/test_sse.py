"""`/pgevents/stream` as a client meets it: a real PostgreSQL behind a real threaded server."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort, request

from pgevents_push.cli import pgevents
from pgevents_push.cursor import Cursor
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.web import Site

Serve = Callable[[Flask], Site]


def expose(shop: Shop) -> None:
    def may_see(subscription: Any) -> bool:
        user = request.args.get("_user")
        if user is None:
            abort(401)
        if user == "broken":
            raise RuntimeError("s3cret")
        shop.db.session.execute(shop.db.text("SELECT 1"))  # looks its user up, as apps do
        return user == "alice"

    shop.events.expose(shop.Order, columns=["id", "status"], public=True)
    shop.events.expose(shop.Ticket, authorize=may_see)
    shop.events.on_insert("hidden")(print)


@pytest.fixture
def open_shop(shop: Shop, database: Database) -> Shop:
    database.execute("CREATE TABLE hidden (id int PRIMARY KEY)")
    expose(shop)
    return shop.up()


@pytest.fixture
def site(open_shop: Shop, serve: Serve) -> Site:
    return serve(open_shop.app)


# --- Frames


def test_ready_comes_first_and_then_every_change(site: Site, database: Database) -> None:
    stream = site.stream("table=orders")
    ready = stream.next()
    assert (ready.name, ready.data) == ("ready", {"resumed": False, "tables": ["public.orders"], "heartbeat": 0.5})
    assert Cursor.parse(ready.id)
    database.execute("INSERT INTO orders VALUES (1, 'open', 3)")
    database.execute("UPDATE orders SET status = 'sent'")
    database.execute("UPDATE orders SET total = 4")  # not exposed: does not exist
    database.execute("DELETE FROM orders")
    database.execute("TRUNCATE orders")
    frames = stream.changes(4)
    assert [frame.name for frame in frames] == ["insert", "update", "delete", "truncate"]
    insert, update, delete, truncate = (frame.data for frame in frames)
    assert (insert["pk"], insert["row"], insert["old"]) == ({"id": 1}, {"id": 1, "status": "open"}, None)
    assert (update["row"], update["old"], update["changed"]) == (
        {"id": 1, "status": "sent"}, {"status": "open"}, ["status"],
    )  # fmt: skip
    assert (delete["row"], delete["old"]) == (None, {"id": 1, "status": "sent"})
    assert (truncate["pk"], truncate["row"]) == ({}, None)
    cursors = [frame.id for frame in frames]
    assert len(set(cursors)) == 4
    assert all(Cursor.parse(cursor) for cursor in cursors)
    assert set(insert) == {
        "id", "type", "schema", "table", "pk", "row", "old", "changed", "tx", "last", "at",
    }  # fmt: skip


def test_several_tables_columns_and_events(site: Site, database: Database) -> None:
    stream = site.stream("table=orders,public.Tickets&events=insert&columns=orders.status&_user=alice")
    assert stream.next("ready").data["tables"] == ["public.orders", "public.Tickets"]
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders VALUES (1, 'open', 3)")
        cursor.execute("UPDATE orders SET status = 'sent'")
        cursor.execute("""INSERT INTO "Tickets" VALUES ('00000000-0000-0000-0000-000000000001', 'é')""")
    order, ticket = (frame.data for frame in stream.changes(2))
    assert (order["type"], order["pk"], order["row"]) == ("insert", {"id": 1}, {"status": "open"})
    assert ticket["row"] == {"id": "00000000-0000-0000-0000-000000000001", "title": "é"}
    assert order["tx"] == ticket["tx"]
    assert (order["last"], ticket["last"]) == (False, True)


def test_format_message_has_no_event_names(site: Site, database: Database) -> None:
    stream = site.stream("table=orders&format=message")
    assert stream.next().name == "ready"
    database.execute("INSERT INTO orders VALUES (1, 'open', 3)")
    [frame] = stream.changes(1)
    assert (frame.name, frame.data["type"]) == ("message", "insert")


@pytest.mark.parametrize("how", ["header", "query"])
def test_who_comes_back_gets_what_was_missed(how: str, site: Site, database: Database) -> None:
    cursor = site.stream("table=orders").next("ready").id
    database.execute("INSERT INTO orders VALUES (1, 'open', 3)")
    if how == "header":
        stream = site.stream("table=orders", Last_Event_ID=cursor)
    else:
        stream = site.stream(f"table=orders&lastEventId={cursor}")
    ready, change = stream.next(), stream.next()
    assert (ready.data["resumed"], ready.id, change.name, change.data["pk"]) == (True, cursor, "insert", {"id": 1})


def test_garbage_is_told_of_the_gap(site: Site) -> None:
    stream = site.stream("table=orders&lastEventId=%00%ff~")
    ready, gap = stream.next(), stream.next()
    assert (ready.name, gap.name, gap.data) == ("ready", "gap", {"reason": "cursor"})
    assert gap.id == ready.id


def test_a_sync_beats_and_moves_the_cursor_past_what_others_do(site: Site, database: Database) -> None:
    stream = site.stream("table=orders")
    ready = stream.next("ready")
    database.execute("CREATE TABLE elsewhere AS SELECT 1 AS id")
    database.execute("INSERT INTO hidden VALUES (1)")

    def moved() -> bool:
        frame = stream.next()
        assert (frame.name, frame.data) == ("sync", {})
        return Cursor.parse(frame.id).snapshot.xmax > Cursor.parse(ready.id).snapshot.xmax

    wait_until(moved)


def test_headers_and_the_first_bytes(site: Site) -> None:
    stream = site.stream("table=orders")
    headers = {name.lower(): value for name, value in stream.response.getheaders()}
    assert stream.response.status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    stream.next("ready")
    assert stream.comments == 1


def test_the_retry_is_jittered(site: Site) -> None:
    retries = []
    for _ in range(8):
        stream = site.stream("table=orders")
        stream.next("ready")
        retries += stream.retries
        stream.close()
    assert len(retries) == 8
    assert len(set(retries)) > 3
    assert all(1000 <= retry <= 3000 for retry in retries)


def test_head_answers_without_streaming(site: Site, open_shop: Shop) -> None:
    answer = site.ask("/pgevents/stream?table=orders", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert site.ask("/pgevents/stream?table=nope", "HEAD").status == 404
    assert open_shop.runtime.hub.connections == 0


# --- Refusals


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("", 400, "table is missing"),
        ("table=orders&evnts=insert", 400, "Did you mean events?"),
        ("table=orders&events=upsert", 400, "'upsert' is not one of"),
        ("table=orders&columns=total", 400, "columns: 'total' is not exposed."),
        ("table=orders&columns=nope", 400, "columns: 'nope' is not exposed."),
        ("table=orders&format=xml", 400, "format: 'xml'"),
        ("table=Tickets", 401, "You must sign in to stream this table."),
        ("table=Tickets&_user=bob", 403, "You may not stream this table."),
        ("table=Tickets&_user=broken", 403, "You may not stream this table."),
        ("table=orders,hidden", 404, "No such table is exposed here."),
    ],
)
def test_a_refusal_is_problem_json(query: str, status: int, detail: str, site: Site, open_shop: Shop) -> None:
    answer = site.ask(f"/pgevents/stream?{query}")
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = json.loads(answer.body)
    assert set(body) == {"type", "title", "status", "detail"}
    assert (body["status"], detail in body["detail"]) == (status, True)
    assert open_shop.runtime.hub.connections == 0


def test_hidden_and_unknown_tables_get_the_same_bytes(site: Site) -> None:
    def answer(table: str) -> tuple[int, dict[str, str], bytes]:
        found = site.ask(f"/pgevents/stream?table={table}")
        return found.status, {k: v for k, v in found.headers.items() if k != "date"}, found.body

    names = ["hidden", "unknown", "pgevents.log", "pg_catalog.pg_authid", "Orders", "a.b.c", "%00", "%22"]
    answers = [answer(name) for name in names]
    assert answers[0][0] == 404
    assert all(other == answers[0] for other in answers)


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/html", 406), ("application/json", 406), ("text/event-stream;q=0", 406)],
)
def test_an_accept_header_that_excludes_it(accept: str, status: int, site: Site) -> None:
    answer = site.ask("/pgevents/stream?table=orders", Accept=accept)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("accept", ["*/*", "text/*", "text/event-stream", "text/html, text/event-stream;q=0.1"])
def test_an_accept_header_that_includes_it(accept: str, site: Site) -> None:
    assert site.stream("table=orders", Accept=accept).response.status == 200


def test_one_table_under_two_names_is_one(site: Site, database: Database) -> None:
    stream = site.stream("table=orders,public.orders,%22orders%22")
    assert stream.next("ready").data["tables"] == ["public.orders"]
    database.execute("INSERT INTO orders (id) VALUES (1), (2)")
    assert [frame.data["pk"]["id"] for frame in stream.changes(2)] == [1, 2]


def test_one_table_with_two_choices_of_columns_is_refused(site: Site) -> None:
    answer = site.ask("/pgevents/stream?table=orders,public.orders&columns=orders.id")
    assert (answer.status, b"public.orders is named twice" in answer.body) == (400, True)


def test_other_methods_are_not_allowed(site: Site) -> None:
    assert site.ask("/pgevents/stream?table=orders", "POST").status == 405


# --- The end of a stream


def test_stopping_says_bye_and_ends_the_stream(site: Site, open_shop: Shop) -> None:
    stream = site.stream("table=orders")
    stream.next("ready")
    open_shop.events.stop(open_shop.app)
    bye = stream.next("bye")
    assert bye.data["reason"] == "shutdown"
    assert 1000 <= bye.data["retry"] <= 3000
    assert stream.retries[-1] == bye.data["retry"]
    assert list(stream) == []
    # A server may take requests for a while; to an error EventSource would never come back.
    late = site.stream("table=orders", Last_Event_ID=bye.id)
    assert late.response.status == 200
    assert [frame.name for frame in late] == ["bye"]
    assert 1000 <= late.retries[-1] <= 3000


def test_a_client_that_leaves_is_noticed_without_any_event(make_shop: MakeShop, serve: Serve) -> None:
    shop = make_shop(PGEVENTS_HEARTBEAT_SECONDS=60)
    expose(shop)
    shop.up()
    site, hub = serve(shop.app), shop.runtime.hub
    streams = [site.stream("table=orders") for _ in range(5)]
    for stream in streams:
        stream.next("ready")
    assert hub.connections == 5
    for stream in streams[:4]:
        stream.close()
    wait_until(lambda: hub.connections == 1)
    streams[4].close()
    wait_until(lambda: hub.connections == 0)


def test_an_open_stream_holds_no_connection_to_the_database(site: Site, open_shop: Shop, database: Database) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in%%'"
    streams = [site.stream("table=Tickets,orders&_user=alice") for _ in range(12)]
    for stream in streams:
        stream.next("ready")
    wait_until(lambda: open_shop.checked_out() == 0)
    assert database.execute(count, database.name) == [(0,)]
    assert open_shop.runtime.hub.connections == 12


def test_a_slow_client_is_ended_and_the_others_get_everything(
    make_shop: MakeShop, serve: Serve, database: Database
) -> None:
    shop = make_shop(PGEVENTS_MAX_QUEUE_BYTES=100_000)
    expose(shop)
    shop.up()
    site, hub, rows = serve(shop.app), shop.runtime.hub, 600
    slow = socket.create_connection(("127.0.0.1", site.port), 10)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    slow.sendall(b"GET /pgevents/stream?table=orders HTTP/1.0\r\n\r\n")
    quick = site.stream("table=orders")
    quick.next("ready")
    wait_until(lambda: hub.connections == 2)
    got: list[int] = []

    def read() -> None:
        while len(got) < rows:
            got.append(quick.next("insert").data["pk"]["id"])

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(0, rows, 5):
        database.execute(
            "INSERT INTO orders (id, status) SELECT n, repeat('x', 10000) FROM generate_series(%s, %s) AS n",
            start,
            start + 4,
        )
        wait_until(lambda reached=start + 5: len(got) >= reached)  # type: ignore[misc]
    reader.join(20)
    assert got == list(range(rows))
    assert hub.counts["overflows"] == 1
    said = b""
    while data := slow.recv(1_000_000):
        said += data
    slow.close()
    numbers = [int(number) for number in re.findall(rb'"pk":\{"id":(\d+)\}', said)]
    assert numbers == list(range(len(numbers)))
    assert b'event: bye\ndata: {"reason":"slow"' in said[-300:]
    wait_until(lambda: hub.connections == 1)


def test_a_stream_before_the_tables_exist_is_ready_when_they_do(shop: Shop, serve: Serve, database: Database) -> None:
    expose(shop)
    shop.register().start()
    site = serve(shop.app)
    stream = site.stream("table=orders")
    shop.create_all()
    assert stream.next("ready", "insert").name == "ready"
    database.execute("INSERT INTO orders (id) VALUES (1)")
    assert stream.next("insert").data["pk"] == {"id": 1}


# --- The other routes


def test_health(site: Site, open_shop: Shop, database: Database) -> None:
    site.stream("table=orders").next("ready")
    answer = site.ask("/pgevents/health")
    report = json.loads(answer.body)
    assert (answer.status, report["status"]) == (200, "listening")
    tables = len(open_shop.runtime.tables)
    assert (report["connections"], report["tables"], report["captured"], report["reconnects"]) == (1, tables, tables, 0)
    assert 0 <= report["seconds_since_read"] < 5
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'pgevents_push' AND datname = current_database()"
    )
    wait_until(lambda: open_shop.runtime.report()["reconnects"] == 1)
    wait_until(lambda: open_shop.runtime.status == "listening")
    open_shop.events.stop(open_shop.app)
    answer = site.ask("/pgevents/health")
    assert (answer.status, json.loads(answer.body)["status"]) == (503, "stopped")


def test_health_tells_outsiders_no_names(site: Site, open_shop: Shop) -> None:
    text = site.ask("/pgevents/health").body.decode()
    assert not [table for table in open_shop.runtime.tables if table.name in text]
    assert open_shop.database.name not in text


def test_health_of_who_does_not_look_at_triggers(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.create_all()
    shop.events.on_change(shop.Order)(lambda event: None)
    shop.register()
    assert shop.app.test_cli_runner().invoke(pgevents, ["install"]).exit_code == 0
    quiet = make_shop(PGEVENTS_INSTALL="off").register().start()
    assert quiet.runtime.report()["captured"] is None


def test_the_client_library_is_served(site: Site) -> None:
    answer = site.ask("/pgevents/static/pgevents.js")
    assert answer.status == 200
    assert "javascript" in answer.headers["content-type"]
    assert b"EventSource" in answer.body


def test_a_plain_request_for_the_websocket_is_told_so(site: Site) -> None:
    answer = site.ask("/pgevents/ws")
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
    assert json.loads(answer.body)["status"] == 426
