"""One suite for every server and both ways to its clients: handed over to the broadcaster, or left with the server."""

from __future__ import annotations

import http.client
import time
import uuid
from typing import Any

import pytest

from tests.fixtures.patience import wait_until
from tests.fixtures.raw_stream import RawStream
from tests.fixtures.worlds import World, check_beats

# --- The bytes


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_headers_framing_and_frames(world: World, version: str) -> None:
    stream = world.stream(version=version).ready()
    world.until(connections=1, handed_over=int(world.handed))
    assert stream.status == 200
    headers = stream.headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["x-after"], headers["x-middleware"]) == ("seen", "seen")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store, no-transform", "no")
    assert "content-length" not in headers
    world.insert(1, 2)
    world.insert(3)
    changes = stream.changes(3)
    assert stream.ids == [1, 2, 3]
    assert all(event.id for event in changes)
    assert len({event.id for event in changes}) == 3
    # Without chunks only the end of the connection is the end of the body.
    assert stream.is_chunked or headers.get("connection", "close") == "close"


def test_a_large_row_and_a_large_transaction_arrive_whole(world: World) -> None:
    stream = world.stream().ready()
    text = "\u2713" * 200_000  # more than a mailbox holds, in three bytes each
    world.database.execute("INSERT INTO orders (id, status) VALUES (1, %s)", text)
    assert stream.changes(1)[0].data["row"]["status"] == text
    world.database.execute("INSERT INTO orders (id) SELECT n FROM generate_series(2, 1001) AS n")
    stream.changes(1001)
    assert stream.ids == list(range(1, 1002))
    assert [event.data["last"] for event in stream.seen] == [True, *[False] * 999, True]


def test_several_tables_in_one_stream_keep_their_order(world: World) -> None:
    both = world.stream("table=orders&table=Order%20Line").ready()
    lines = world.stream("table=Order%20Line&format=message")
    lines.until(lambda: "ready" in lines.names)
    for number in range(20):
        world.insert(number)
        world.database.execute('INSERT INTO "Order Line" VALUES (%s, 1)', number)
    both.changes(40)
    assert [event.data["table"] for event in both.seen] == ["orders", "Order Line"] * 20
    assert "message" not in both.names
    lines.until(lambda: lines.names.count("message") == 20)


# --- Silence, ends and returns


def test_silence_is_broken_by_a_sync_that_can_be_resumed_from(world: World) -> None:
    stream = world.stream().ready()
    began = time.monotonic()
    world.insert(1)
    stream.changes(1)
    stream.until(lambda: stream.names[-3:] == ["sync"] * 3)
    check_beats(began, [event.at for event in stream.events[-4:]])
    back = world.stream(since=stream.events[-1].id).ready()
    assert back.events[0].data["resumed"] is True
    world.insert(2)
    back.changes(1)
    assert back.ids == [2]


def test_who_comes_when_all_others_have_left_is_not_left_in_silence(world: World) -> None:
    def hear_beats(stream: RawStream) -> None:
        stream.until(lambda: stream.names[-2:] == ["sync"] * 2)

    for _ in range(2):
        stream = world.stream().ready()
        hear_beats(stream)
        stream.close()
        world.until(connections=0)


def test_resuming_in_the_middle_of_a_transaction(world: World) -> None:
    stream = world.stream().ready()
    world.insert(1, 2, 3, 4)
    middle = stream.changes(4)[1]
    stream.close()
    world.insert(5)
    back = world.stream(since=middle.id).ready()
    assert back.events[0].data["resumed"] is True
    back.changes(3)
    world.insert(6)
    back.changes(4)
    assert back.ids == [3, 4, 5, 6]


def test_a_client_that_leaves_is_noticed_and_leaves_nothing(world: World) -> None:
    for _ in range(3):  # warm up
        world.stream().ready().close()
    world.until(connections=0)
    before = world.left()
    for _ in range(5):
        streams = [world.stream().ready() for _ in range(10)]
        world.until(connections=10, handed_over=10 if world.handed else 0, groups=1)
        for stream in streams:
            stream.close()
        world.until(connections=0, groups=0, handed_over=0)
    wait_until(lambda: world.left()["fds"] <= before["fds"])
    wait_until(lambda: world.left()["greenlets"] <= before["greenlets"])


def test_a_slow_client_is_ended_and_gets_the_rest_when_it_returns(world: World) -> None:
    overflows = world.left()["overflows"]
    fast, slow = world.stream().ready(), world.stream(buffer=4096).ready()
    world.until(connections=2)
    for start in range(1, 201, 5):  # half of what may wait: the fast one is never slow, however busy the machine
        rows = "SELECT n, repeat('x', 30000) FROM generate_series(%s, %s) AS n"
        world.database.execute(f"INSERT INTO orders (id, status) {rows}", start, start + 4)
        fast.changes(start + 4)
    wait_until(lambda: world.left()["overflows"] == overflows + 1)
    slow.end()
    assert slow.finished
    assert slow.events[-1].name == "bye"
    assert slow.events[-1].data["reason"] == "slow"
    assert slow.ids == list(range(1, len(slow.seen) + 1))
    assert len(slow.seen) < 200
    back = world.stream(since=slow.seen[-1].id).ready()
    back.changes(200 - len(slow.seen))
    assert slow.ids + back.ids == fast.ids == list(range(1, 201))


# --- What others see of it


def test_hooks_and_middleware_see_an_ordinary_response(world: World) -> None:
    def noted() -> dict[str, list[Any]]:
        lines = world.serving.lines()[before:]
        return {name: [line[name] for line in lines if name in line] for name in ("raised", "teardown", "closed")}

    before = len(world.serving.lines())
    stream = world.stream().ready()
    if world.handed:  # it is over, although the stream goes on
        wait_until(lambda: all(noted().values()))
    world.insert(1)
    stream.changes(1)
    stream.close()
    wait_until(lambda: all(noted().values()))
    expected = {"raised": [""], "teardown": [""], "closed": [True]}
    assert noted() == expected if world.handed else noted()["teardown"] == [""]


def test_the_access_log_has_one_line_with_200(world: World) -> None:
    query = f"table=orders&_={uuid.uuid4().hex}"
    world.stream(query).ready().close()
    wait_until(lambda: query in world.serving.output())
    [line] = [line for line in world.serving.output().splitlines() if query in line]
    assert " 200 " in line
    assert "Traceback" not in world.serving.output()


def test_a_second_request_on_the_connection_disturbs_nothing(world: World) -> None:
    stream = world.stream().ready()
    stream.sock.sendall(b"GET /left HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    world.insert(1)
    world.insert(2)
    stream.changes(2)
    assert stream.ids == [1, 2]


def test_ordinary_answers_are_as_ever(world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
    for path, status in (("/left", 200), ("/pgevents/stream?table=nothing", 404), ("/pgevents/stream", 400)):
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.request("HEAD", "/pgevents/stream?table=orders")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()
