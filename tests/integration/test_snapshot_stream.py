"""What a client that asked for the rows gets before and instead of them: order, resuming, gaps, ends, refusals."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from jinja2 import DictLoader

from pgevents_push.errors import ConnectionLost
from pgevents_push.extension import snapshots
from tests.fixtures.buffers import MORE_THAN_FITS, WIDE
from tests.fixtures.joined import TRANSPORTS, Replica, Serve, Sse, Ws, follow
from tests.fixtures.patience import wait_until
from tests.fixtures.pooler import pgbouncer
from tests.fixtures.postgres import Database
from tests.fixtures.roles import role
from tests.fixtures.shop import MakeShop, Shop
from tests.fixtures.watchers import Item

both = pytest.mark.parametrize("transport", TRANSPORTS)
OURS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pgevents_push'"
READING = f"{OURS} AND xact_start IS NOT NULL AND query ~ 'FETCH|ctid'"


Join = Callable[..., Any]


@pytest.fixture
def join() -> Iterator[Join]:
    """Return what opens a client; all are closed after the test."""
    with ExitStack() as stack:

        def join_(transport: Any, *arguments: Any, **more: Any) -> Any:
            source = transport(*arguments, **more)
            stack.callback(source.close)
            return source

        yield join_


def open_shop(make_shop: MakeShop, **settings: Any) -> Shop:
    shop = make_shop(**settings)
    shop.events.expose(shop.Order, public=True)
    shop.events.expose(shop.Line, columns=["day", "Code", "amount"], public=True)
    shop.events.expose(shop.Ticket, public=True)
    return shop.up()


def many_orders(database: Database, rows: int = 2000, width: int = 1000) -> None:
    database.execute(f"INSERT INTO orders SELECT n, repeat('x', {width}), n FROM generate_series(1, {rows}) AS n")


def until_ready(source: Any) -> list[Item]:
    items = []
    for item in source:
        items.append(item)
        if item.name == "ready":
            return items
    raise AssertionError("the stream ended")


def next_change(source: Iterable[Item]) -> Item:
    return next(item for item in source if item.name != "sync")


@both
def test_the_rows_come_in_chunks_before_ready(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any
) -> None:
    site = serve(open_shop(make_shop).app)
    many_orders(database, 300)
    source = join(transport, site)
    *chunks, ready = until_ready(source)
    assert [(chunk.name, chunk.cursor) for chunk in chunks] == [("snapshot", "snapshot")] * len(chunks)
    assert len(chunks) > 3
    assert [chunk.data["first"] for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert [chunk.data["last"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert {(chunk.data["schema"], chunk.data["table"]) for chunk in chunks} == {("public", "orders")}
    rows = [row for chunk in chunks for row in chunk.data["rows"]]
    assert rows[6] == {"pk": {"id": 7}, "row": {"id": 7, "status": "x" * 1000, "total": 7}}
    assert [row["pk"]["id"] for row in rows] == list(range(1, 301))
    assert ready.data["resumed"] is False
    assert ready.cursor.count("~") == 1


@both
def test_an_empty_table_is_shown_too(make_shop: MakeShop, serve: Serve, join: Join, transport: Any) -> None:
    source = join(transport, serve(open_shop(make_shop).app))
    chunk, _ = until_ready(source)
    assert (chunk.data["rows"], chunk.data["first"], chunk.data["last"]) == ([], True, True)


@both
def test_columns_and_a_limit(make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any) -> None:
    """The key is cut to what is exposed; with a limit all changes come nevertheless."""
    database_rows = "INSERT INTO lines VALUES (2, '2026-01-02', 'b', 1), (1, '2026-01-01', 'a', 5)"
    shop = open_shop(make_shop)
    site = serve(shop.app)
    database.execute(database_rows)
    columns: Any = ["amount"] if transport is Ws else "amount"
    source = join(transport, site, "lines", columns=columns, limit=1)
    chunk, _ = until_ready(source)
    assert chunk.data["rows"] == [{"pk": {"day": "2026-01-01", "Code": "a"}, "row": {"amount": 5}}]
    database.execute("DELETE FROM lines WHERE order_id = 2")
    assert next_change(source).data["pk"] == {"day": "2026-01-02", "Code": "b"}


def test_numbers_that_javascript_would_garble_are_texts(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    database.execute('CREATE TABLE n (id bigint PRIMARY KEY, "a" numeric, j json)')
    database.execute("INSERT INTO n VALUES (9007199254740993, 1.10, E'{\"x\":\\n1e400}')")
    shop = make_shop()
    shop.events.expose("public.n", columns="*", public=True)
    site = serve(shop.up().app)
    wanted = [{"pk": {"id": "9007199254740993"}, "row": {"id": "9007199254740993", "a": 1.1, "j": {"x": "1e400"}}}]
    for transport in TRANSPORTS:
        source = join(transport, site, "n")
        assert until_ready(source)[0].data["rows"] == wanted
        source.close()
    assert json.loads(site.ask("/pgevents/snapshot?table=n").body)["rows"] == wanted


def test_several_tables_are_of_one_moment(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    """A row that moves between two tables is in exactly one of them, however often one looks."""
    site = serve(open_shop(make_shop).app)
    many_orders(database, 500)
    move = (
        "WITH gone AS (DELETE FROM orders WHERE id = 500 RETURNING id)"
        " INSERT INTO lines SELECT id, '2026-01-01', 'a', 1 FROM gone"
    )
    back = "WITH gone AS (DELETE FROM lines RETURNING order_id) INSERT INTO orders SELECT order_id, 'x', 1 FROM gone"
    for turn in range(12):
        stream = site.stream("table=lines&table=orders&snapshot=1")
        frames = iter(stream)
        rows: dict[str, list[Any]] = {"lines": [], "orders": []}
        database.execute((move, back)[turn % 2])
        for frame in frames:
            if frame.name == "ready":
                break
            rows[frame.data["table"]] += frame.data["rows"]
        assert len(rows["lines"]) + len(rows["orders"]) == 500
        assert (len(rows["lines"]) == 0) == any(row["pk"]["id"] == 500 for row in rows["orders"])
        stream.close()


@both
def test_who_can_go_on_gets_no_rows(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any
) -> None:
    site = serve(open_shop(make_shop).app)
    many_orders(database, 10)
    source = join(transport, site)
    cursor = until_ready(source)[-1].cursor
    source.close()
    database.execute("DELETE FROM orders WHERE id = 3")
    again = join(transport, site, since=cursor)
    items = iter(again)
    ready, change = next(items), next(items)
    assert (ready.name, ready.data["resumed"], change.name, change.data["pk"]) == ("ready", True, "delete", {"id": 3})


@both
@pytest.mark.parametrize(
    ("since", "reason"),
    [("nonsense", "cursor"), ("0123456789ab~1:1:", "epoch"), ("{epoch}~1:99999999999:", "cursor")],
)
def test_a_gap_is_told_and_then_the_rows(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any, since: str, reason: str
) -> None:
    site = serve(open_shop(make_shop).app)
    many_orders(database, 3)
    epoch = until_ready(join(transport, site))[-1].cursor.split("~")[0]
    source = join(transport, site, since=since.replace("{epoch}", epoch))
    gap, chunk, ready = until_ready(source)
    assert (gap.name, gap.data["reason"], gap.cursor) == ("gap", reason, "snapshot")
    assert len(chunk.data["rows"]) == 3
    assert ready.data["resumed"] is False


@both
def test_what_the_log_no_longer_holds_is_a_gap_and_then_the_rows(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any
) -> None:
    shop = open_shop(make_shop, PGEVENTS_HISTORY_BYTES=0)
    site = serve(shop.app)
    source = join(transport, site)
    cursor = until_ready(source)[-1].cursor
    many_orders(database, 3)
    source.close()
    wait_until(lambda: shop.runtime.hub.cursor != cursor)  # what is read live is not missed
    database.execute("INSERT INTO pgevents.emptied SELECT 0, xid, pg_current_snapshot() FROM pgevents.log LIMIT 1")
    again = join(transport, site, since=cursor)
    items = iter(again)
    seen = [next(items) for _ in range(4)]
    assert [item.name for item in seen] == ["ready", "gap", "snapshot", "ready"]
    assert (seen[1].data["reason"], seen[1].cursor) == ("retention", "snapshot")
    assert [item.data["resumed"] for item in (seen[0], seen[3])] == [True, False]
    database.execute("DELETE FROM orders WHERE id = 3")
    assert next_change(items).name == "delete"


@both
def test_who_broke_off_in_the_middle_gets_all_rows_again(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any
) -> None:
    site = serve(open_shop(make_shop).app)
    many_orders(database, 500)
    source = join(transport, site)
    first = next(iter(source))
    assert not first.data["last"]
    source.close()
    again = join(transport, site, since=first.cursor)
    *chunks, _ = until_ready(again)
    assert {chunk.name for chunk in chunks} == {"snapshot"}
    assert sum(len(chunk.data["rows"]) for chunk in chunks) == 500
    again.close()
    plain = site.stream("table=orders", Last_Event_ID=first.cursor)
    assert plain.next("gap").data == {"reason": "cursor"}
    wait_until(lambda: database.execute(READING) == [])


def test_the_document_and_the_stream_that_goes_on_from_it(
    make_shop: MakeShop, serve: Serve, database: Database
) -> None:
    """Also on another process, whose listener has a position of its own."""
    sites = [serve(open_shop(make_shop).app) for _ in range(2)]
    many_orders(database, 1000)
    answer = sites[0].ask("/pgevents/snapshot?table=orders&columns=total")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    document = json.loads(answer.body)
    assert list(document) == ["cursor", "rows"]
    assert document["rows"][41] == {"pk": {"id": 42}, "row": {"total": 42}}
    assert len(document["rows"]) == 1000
    database.execute("UPDATE orders SET total = 0 WHERE id = 42")
    stream = sites[1].stream(f"table=orders&columns=total&lastEventId={document['cursor']}")
    assert stream.next().data["resumed"] is True
    assert stream.next().data["old"] == {"total": 42}


@pytest.mark.parametrize(
    ("query", "status", "named"),
    [
        ("", 400, "table"),
        ("table=orders&table=lines", 400, "table"),
        ("table=orders&events=insert", 400, "events"),
        ("table=orders&limit=many", 400, "limit"),
        ("table=orders&columns=secret", 400, "secret"),
        ("table=hidden", 404, "exposed"),
        ("table=pgevents.log", 404, "exposed"),
        ("table=forbidden", 403, "not"),
    ],
)
def test_a_document_that_cannot_be(
    make_shop: MakeShop, serve: Serve, database: Database, query: str, status: int, named: str
) -> None:
    shop = make_shop()
    shop.events.expose(shop.Order, public=True)
    shop.events.expose("forbidden", columns=["id"], authorize=lambda asked: False)
    site = serve(shop.up().app)
    for method in ("GET", "HEAD"):
        answer = site.ask(f"/pgevents/snapshot?{query}", method)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert named in json.loads(site.ask(f"/pgevents/snapshot?{query}").body)["detail"]


def test_head_reads_nothing(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    site = serve(open_shop(make_shop).app)
    answer = site.ask("/pgevents/snapshot?table=orders", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "application/json")


def test_a_slow_client_keeps_no_transaction_open(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    """Rows that nobody takes, and that fit into no socket: at first they wait, with their transaction; then it is over.
    What fits is no matter of the client's pace."""
    shop = open_shop(make_shop, PGEVENTS_SNAPSHOT_SECONDS=1.5)
    site = serve(shop.app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    streams = [join(Sse, site), join(Ws, site)]
    wait_until(lambda: len(database.execute(READING)) == 2)
    wait_until(lambda: database.execute(READING) == [])
    for item in streams[0]:
        if item.name == "bye":
            break
    assert item.data["reason"] == "slow"
    for item in streams[1]:
        if item.name == "error":
            break
    assert (item.data["code"], item.data["ref"]) == (503, "1")
    assert "PGEVENTS_SNAPSHOT_SECONDS" in item.data["message"]


def test_a_document_that_is_taken_too_slowly_breaks_off(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    """It is no JSON then, so nobody takes a part for the whole."""
    site = serve(open_shop(make_shop, PGEVENTS_SNAPSHOT_SECONDS=1.5).app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    with socket.create_connection(("127.0.0.1", site.port), 20) as connection:
        connection.sendall(b"GET /pgevents/snapshot?table=orders HTTP/1.0\r\n\r\n")
        wait_until(lambda: database.execute(READING))
        wait_until(lambda: database.execute(READING) == [])
        answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    body = answer.split(b"\r\n\r\n", 1)[1]
    assert len(body) > WIDE
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_fragments_of_the_page_instead_of_rows(make_shop: MakeShop, serve: Serve, database: Database) -> None:
    shop = make_shop()
    shop.app.jinja_loader = DictLoader({"order.html": '<li id="orders-{{ row.id }}">{{ row.status }}</li>'})
    shop.events.expose(shop.Order, public=True)
    shop.events.fragment(shop.Order, template="order.html", target="#orders")
    site = serve(shop.up().app)
    database.execute("INSERT INTO orders VALUES (1, 'a'), (2, '<b>')")
    response = site.stream("table=orders&format=html&snapshot=1").response
    lines: list[str] = []
    while not lines or lines[-1] != "event: ready":
        lines.append(response.readline().decode().rstrip())
    assert [line for line in lines if line.startswith("data")] == [
        'data: <div hx-swap-oob="innerHTML:#orders"></div>',
        'data: <ul hx-swap-oob="beforeend:#orders"><li id="orders-1">a</li></ul>',
        'data: <ul hx-swap-oob="beforeend:#orders"><li id="orders-2">&lt;b&gt;</li></ul>',
    ]


def test_a_slow_client_gives_way_to_an_alter_table(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    """While that waits for us, everybody else who wants the table waits behind it."""
    site = serve(open_shop(make_shop).app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    source = join(Sse, site)
    wait_until(lambda: database.execute(READING))
    began = time.monotonic()
    database.execute("ALTER TABLE orders ADD more int")
    assert time.monotonic() - began < 10
    for item in source:
        if item.name != "snapshot":
            break
    assert (item.name, item.data["reason"]) == ("bye", "slow")


def test_what_fits_into_the_queue_needs_no_transaction(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    shop = open_shop(make_shop, PGEVENTS_SNAPSHOT_SECONDS=60)
    site = serve(shop.app)
    many_orders(database, 3, WIDE)
    for transport in TRANSPORTS:
        source = join(transport, site)
        wait_until(lambda: shop.runtime.snapshots._at_work == 0)
        assert database.execute(READING) == []
        assert sum(len(item.data["rows"]) for item in until_ready(source)[:-1]) == 3
        source.close()


def test_snapshots_take_turns(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "STALLED_SECONDS", 60.0)
    shop = open_shop(make_shop, PGEVENTS_MAX_SNAPSHOTS=1, PGEVENTS_SNAPSHOT_SECONDS=30)
    site = serve(shop.app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    slow = join(Sse, site)
    wait_until(lambda: len(database.execute(READING)) == 1)
    others = [join(transport, site, "lines") for transport in TRANSPORTS]
    stream = site.stream("table=lines&snapshot=1")
    frames = iter(stream)
    wait_until(lambda: len(shop.runtime.snapshots._line) == 3)
    others[1].socket.send('{"type": "ping"}')
    assert next(iter(others[1])).name == "pong"  # it hears while it waits
    assert len(database.execute(READING)) == 1
    slow.close()
    assert next(frames).name == "snapshot"
    for other in others:
        assert [item.name for item in until_ready(other)] == ["snapshot", "ready"]


@both
def test_one_that_takes_nothing_makes_room_for_those_who_wait(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tab that sleeps must not keep all others from their rows, for as long as a transaction may last."""
    monkeypatch.setattr(snapshots, "STALLED_SECONDS", 1.0)
    shop = open_shop(make_shop, PGEVENTS_MAX_SNAPSHOTS=1, PGEVENTS_SNAPSHOT_SECONDS=60)
    site = serve(shop.app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    asleep = join(transport, site)
    wait_until(lambda: shop.runtime.snapshots._at_work == 1)
    began = time.monotonic()
    assert [item.name for item in until_ready(join(Sse, site, "lines"))] == ["snapshot", "ready"]
    assert time.monotonic() - began < 15
    last = next(item for item in asleep if item.name not in ("snapshot", "pong"))
    assert (last.name, last.data.get("reason", last.data.get("code"))) in (("bye", "slow"), ("error", 503))


def test_who_waits_in_line_keeps_no_connection_of_the_app(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one with which `authorize` looked up its user: a pool has a few, and all other pages want one."""
    monkeypatch.setattr(snapshots, "STALLED_SECONDS", 60.0)
    shop = make_shop(PGEVENTS_MAX_SNAPSHOTS=1, PGEVENTS_SNAPSHOT_SECONDS=30)

    def may_see(asked: Any) -> bool:
        return bool(shop.db.session.execute(shop.db.text("SELECT true")).scalar())

    shop.events.expose(shop.Order, authorize=may_see)
    site = serve(shop.up().app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    join(Sse, site)
    wait_until(lambda: len(database.execute(READING)) == 1)
    with ExitStack() as stack:
        for _ in range(20):  # more than the pool has
            waiting_one = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), 20))
            waiting_one.sendall(b"GET /pgevents/snapshot?table=orders HTTP/1.0\r\n\r\n")
        wait_until(lambda: len(shop.runtime.snapshots._line) == 20)
        assert shop.checked_out() == 0


@both
def test_a_killed_backend_in_the_middle(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any
) -> None:
    """What came is of a moment that is over: the client begins anew, and has each row once then."""
    site = serve(open_shop(make_shop, PGEVENTS_MAX_QUEUE_BYTES=100_000).app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    source = join(transport, site)
    items = iter(source)
    next(items)
    wait_until(lambda: database.execute(READING))
    database.execute(f"SELECT pg_terminate_backend(pid) FROM ({READING}) AS ours")
    for item in items:
        if item.name != "snapshot":
            break
    if transport is Sse:
        assert (item.name, item.data["reason"], item.cursor) == ("bye", "lost", "")
        source.close()
        source = join(transport, site, since="snapshot")
    else:
        assert (item.name, item.data["ref"], item.data["code"]) == ("error", "1", 503)
        source.socket.send('{"type":"subscribe","ref":"1","table":"orders","snapshot":true}')
    replica = Replica()
    for item in until_ready(source):
        replica.take(item)
    assert (len(replica.rows), replica.complaints) == (MORE_THAN_FITS, [])


@both
def test_a_role_that_may_not_read_the_table(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any, caplog: Any
) -> None:
    """It may read the log, so changes come; the rows need a GRANT, which the log names and the client is not told."""
    shop = open_shop(make_shop)
    many_orders(database, 3)
    with role(database, "listener") as name:
        shop.runtime.installer().install([], reader=name)
        url = database.url.replace("postgres@", f"{name}@")
        site = serve(open_shop(make_shop, PGEVENTS_DATABASE_URL=url, PGEVENTS_INSTALL="off").app)
        source = join(transport, site)
        item = next(iter(source))
        if transport is Sse:
            assert (item.name, item.data["reason"]) == ("bye", "failed")
        else:
            assert (item.name, item.data["code"], item.data["ref"]) == ("error", 503, "1")
        answer = site.ask("/pgevents/snapshot?table=orders")
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        for text in (json.dumps(item.data), answer.body.decode()):
            assert name not in text
            assert "GRANT" not in text
        assert caplog.text.count(f"GRANT SELECT ON public.orders TO {name}") == 1
        database.execute(f"GRANT SELECT ON orders TO {name}")
        assert len(json.loads(site.ask("/pgevents/snapshot?table=orders").body)["rows"]) == 3


def test_rows_that_postgresql_refuses_are_not_asked_for_again_and_again(
    make_shop: MakeShop, serve: Serve, database: Database, caplog: Any
) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('good'); CREATE TABLE odd (id int PRIMARY KEY, body text)")
    database.execute("CREATE FUNCTION burst(mood) RETURNS json AS 'BEGIN RETURN 1 / 0; END' LANGUAGE plpgsql")
    database.execute("CREATE CAST (mood AS json) WITH FUNCTION burst(mood); ALTER TABLE odd ADD m mood")
    database.execute("INSERT INTO odd VALUES (1, 'secret', 'good')")
    shop = make_shop()
    shop.events.expose("odd", columns="*", public=True)
    site = serve(shop.up().app)
    assert site.ask("/pgevents/snapshot?table=odd").status == 503
    assert site.stream("table=odd&snapshot=1").next().data["reason"] == "failed"
    assert "cannot be read: DivisionByZero" in caplog.text  # the message itself may quote a value
    assert "secret" not in caplog.text


@both
def test_a_database_that_is_away_for_a_moment(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any
) -> None:
    """Nothing of the rows was sent yet: it is tried again, and the client sees that we are alive."""
    shop = open_shop(make_shop)
    site = serve(shop.app)
    many_orders(database, 3)
    connect, shop.runtime.snapshots._connect = shop.runtime.snapshots._connect, lost
    source = join(transport, site)
    assert site.ask("/pgevents/snapshot?table=orders").status == 503
    shop.runtime.snapshots._connect = connect
    assert [item.name for item in until_ready(source)] == ["snapshot", "ready"]


def lost() -> Any:
    raise ConnectionLost("connection refused by 10.0.0.7")


@both
def test_behind_a_pooler(make_shop: MakeShop, serve: Serve, database: Database, join: Join, transport: Any) -> None:
    with pgbouncer(database, "transaction", 5) as pooled:
        open_shop(make_shop).close()
        shop = make_shop(at=pooled, PGEVENTS_WAKEUP="poll")
        shop.events.expose(shop.Order, public=True)
        shop.register().start()
        site = serve(shop.app)
        many_orders(database, 2000, 100)
        replica, source = Replica(), join(transport, site)
        items = iter(source)
        replica.take(next(items))
        database.execute("DELETE FROM orders WHERE id > 10")
        follow(replica, items, lambda seen: len(seen.rows) == 10)
        assert (len(replica.events), replica.complaints) == (1990, [])
        shop.close()


def test_a_table_that_is_captured_later_is_read_only_then(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    """Rows from before would be joined by nothing: their changes are not in the log."""
    shop = make_shop()
    shop.events.expose("late", columns="*", public=True)
    site = serve(shop.register().start().app)
    database.execute("BEGIN; CREATE TABLE late (id int PRIMARY KEY, n int)")
    sources = [join(transport, site, "late") for transport in TRANSPORTS]
    database.execute("INSERT INTO late SELECT n, 0 FROM generate_series(1, 10) AS n; COMMIT")
    for source in sources:
        replica = Replica()
        items = iter(source)
        while replica.ready is None:
            replica.take(next(items))
        database.execute("UPDATE late SET n = n + 1")
        follow(replica, items, lambda seen: len(seen.events) == 10)
        assert (len(replica.rows), replica.complaints) == (10, [])


def test_a_subscription_can_be_taken_back_while_it_is_shown(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    site = serve(open_shop(make_shop).app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    source = join(Ws, site)
    wait_until(lambda: database.execute(READING))
    source.socket.send('{"type":"unsubscribe","ref":"1"}')
    source.socket.send('{"type":"ping"}')
    for item in source:
        if item.name != "snapshot":
            break
    assert item.name == "pong"
    wait_until(lambda: database.execute(READING) == [])
    source.socket.send('{"type":"subscribe","ref":"1","table":"lines","snapshot":true}')
    assert [item.name for item in until_ready(source)] == ["snapshot", "ready"]


def test_a_socket_goes_on_with_others_while_one_is_shown_the_rows(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    site = serve(open_shop(make_shop).app)
    many_orders(database, 3000)
    source = join(Ws, site)
    source.socket.send('{"type":"subscribe","ref":"2","table":"lines"}')
    kinds = []
    for item in source:
        kinds.append(f"{item.name} {item.data['ref']}")
        if kinds[-1] == "ready 2":
            database.execute("INSERT INTO lines VALUES (1, now(), 'a', 1)")
        if {"insert 2", "ready 1"} <= set(kinds):
            break
    last = len(kinds) - kinds[::-1].index("snapshot 1") - 1
    assert kinds.index("insert 2") < last


def test_a_process_that_stops_ends_streams_that_are_being_shown_rows(
    make_shop: MakeShop, serve: Serve, database: Database, join: Join
) -> None:
    shop = open_shop(make_shop, PGEVENTS_MAX_SNAPSHOTS=1)
    site = serve(shop.app)
    many_orders(database, MORE_THAN_FITS, WIDE)
    begun = join(Sse, site)
    wait_until(lambda: database.execute(READING))
    waits = join(Sse, site, "lines")
    wait_until(lambda: len(shop.runtime.snapshots._line) == 1)
    shop.runtime.stop()
    for source in (waits, begun):
        for item in source:
            if item.name != "snapshot":
                break
        assert (item.name, item.data["reason"]) == ("bye", "shutdown")
    wait_until(lambda: database.execute(READING) == [])
