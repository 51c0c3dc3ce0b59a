"""One suite for WebSockets over every server, handed over to the broadcaster or left with the server."""

from __future__ import annotations

import time

from tests.fixtures.patience import wait_until
from tests.fixtures.worlds import MARK, World, Writing, check_beats
from tests.fixtures.ws_client import StrictClient, TalkingClient, client_frame


def test_it_is_handed_over_where_it_can_be(world: World) -> None:
    client = world.talk()
    world.until(connections=1, handed_over=int(world.handed))
    client.live()
    world.until(connections=1, handed_over=int(world.handed))


# --- The frames


def test_a_large_row_and_a_large_transaction_arrive_whole(world: World) -> None:
    client = world.talk()
    client.live()
    text = "\u2713" * 200_000  # more than a mailbox holds, in three bytes each
    world.database.execute("INSERT INTO orders (id, status) VALUES (1, %s)", text)
    assert client.changes(1)[0]["row"]["status"] == text
    world.database.execute("INSERT INTO orders (id) SELECT n FROM generate_series(2, 1001) AS n")
    client.changes(1001)
    assert client.ids() == list(range(1, 1002))
    assert [change["last"] for change in client.seen] == [True, *[False] * 999, True]


def test_several_subscriptions_keep_their_order(world: World) -> None:
    client = world.talk()
    client.live("o")
    client.live("l", table="Order Line")
    for number in range(20):
        world.insert(number)
        world.database.execute('INSERT INTO "Order Line" VALUES (%s, 1)', number)
    client.changes(40)
    assert [change["ref"] for change in client.seen] == ["o", "l"] * 20


def test_who_subscribes_and_unsubscribes_among_changes_misses_none_and_gets_none_twice(world: World) -> None:
    """Each of it takes the connection out of the crowd, and brings it back."""
    client, other = world.talk(), world.talk()
    client.live()
    other.live()
    with Writing(world.insert) as writing:
        for number in range(30):
            client.live(f"more {number}", table=["orders", "Order Line"][number % 2])
            client.ask()
            client.send({"type": "unsubscribe", "ref": f"more {number}"})
            client.send_frame(0x89, b"beside")
            client.ask()
            told = len(client.told)
            client.ask()
            other.ask()  # which nobody else reads
            assert f"more {number}" not in {m.get("ref") for m in client.told[told:]}
    for one in (client, other):
        one.until(lambda one=one: writing.last in one.ids())  # type: ignore[misc]
        assert one.ids() == list(range(writing.last + 1))
    for number in range(0, 30, 2):
        extra = client.ids(f"more {number}")
        assert extra == list(range(extra[0], extra[0] + len(extra))) if extra else True
    assert client.pongs == [b"beside"] * 30
    world.until(connections=2, handed_over=2 if world.handed else 0)


def test_protocol_pings_and_ours_are_answered_in_silence(world: World) -> None:
    client = world.talk()
    client.live()
    client.send_frame(0x89, b"hello")
    client.ask()
    assert client.pongs == [b"hello"]


def test_a_message_in_pieces_is_one(world: World) -> None:
    client = world.talk()
    whole = client_frame(0x01, b'{"type":"subscri') + client_frame(0x89, b"in between")
    whole += client_frame(0x00, b'be","ref":"\xc3') + client_frame(0x80, b'\xa4","table":"orders"}')
    for at in range(len(whole)):
        client.sock.sendall(whole[at : at + 1])
    client.until(lambda: client.kinds[-1:] == ["ready"])
    assert client.told[-1]["ref"] == "\u00e4"
    assert client.pongs == [b"in between"]


# --- Silence, ends and returns


def test_silence_is_broken_by_a_sync_that_can_be_resumed_from(world: World) -> None:
    client = world.talk()
    client.live()
    began = time.monotonic()
    world.insert(1)
    client.changes(1)
    client.until(lambda: client.kinds[-3:] == ["sync"] * 3)
    check_beats(began, client.told_at[-4:])
    back = world.talk()
    assert back.live(since=client.told[-1]["cursor"])["resumed"] is True
    world.insert(2)
    back.changes(1)
    assert back.ids() == [2]


def test_resuming_in_the_middle_of_a_transaction(world: World) -> None:
    client = world.talk()
    client.live()
    world.insert(1, 2, 3, 4)
    middle = client.changes(4)[1]
    client.close()
    world.insert(5)
    back = world.talk()
    assert back.live(since=middle["cursor"])["resumed"] is True
    back.changes(3)
    world.insert(6)
    back.changes(4)
    assert back.ids() == [3, 4, 5, 6]


def test_rows_first_then_their_changes(world: World) -> None:
    world.insert(*range(1, 41))
    client = world.talk()
    client.live("early", table="Order Line")
    client.send({"type": "subscribe", "ref": "1", "table": "orders", "snapshot": True})
    for number in range(41, 60):
        world.insert(number)
    client.until(lambda: 59 in client.ids() or "ready" in client.kinds[1:])
    world.insert(60)
    client.until(lambda: 60 in client.ids())
    rows = [row["pk"]["id"] for m in client.told if m["type"] == "snapshot" for row in m["rows"]]
    rows = [number for number in rows if number != MARK]
    assert [*rows, *client.ids()] == list(range(1, 61))


def test_a_client_that_leaves_is_noticed_and_leaves_nothing(world: World) -> None:
    for _ in range(3):  # warm up
        with TalkingClient(world.port) as client:
            client.live()
    world.until(connections=0)
    before = world.left()
    for end in (StrictClient.close, StrictClient.reset, _say_goodbye) * 2:
        clients = [TalkingClient(world.port) for _ in range(10)]
        for client in clients:
            client.live()
        world.until(connections=10, handed_over=10 if world.handed else 0)
        for client in clients:
            end(client)
            client.close()
        world.until(connections=0, groups=0, handed_over=0)
    for name in ("fds", "greenlets"):
        wait_until(lambda name=name: world.left()[name] <= before[name] + 1)  # type: ignore[misc]


def _say_goodbye(client: StrictClient) -> None:
    client.send_frame(0x88, (1000).to_bytes(2, "big"))
    assert client.close_code() == 1000


def test_a_slow_client_is_ended_and_gets_the_rest_when_it_returns(world: World) -> None:
    overflows = world.left()["overflows"]
    fast, slow = world.talk(), world.talk(receive_buffer=4096)
    fast.live()
    slow.live()
    world.until(connections=2)
    for start in range(1, 201, 5):  # half of what may wait: the fast one is never slow, however busy the machine
        rows = "SELECT n, repeat('x', 30000) FROM generate_series(%s, %s) AS n"
        world.database.execute(f"INSERT INTO orders (id, status) {rows}", start, start + 4)
        fast.changes(start + 4)
    wait_until(lambda: world.left()["overflows"] == overflows + 1)
    assert slow.last_words() == 4408
    assert slow.ids() == list(range(1, len(slow.seen) + 1))
    assert len(slow.seen) < 200
    back = world.talk()
    back.live(since=slow.seen[-1]["cursor"])
    back.changes(200 - len(slow.seen))
    assert slow.ids() + back.ids() == fast.ids() == list(range(1, 201))


def test_a_slow_client_that_says_something_still_gets_all_in_order(world: World) -> None:
    """What the kernel did not take yet goes out before what its greenlet writes."""
    client = world.talk(receive_buffer=4096)
    client.live()
    rows = "SELECT n, repeat('x', 1000) FROM generate_series(%s, %s) AS n"
    world.database.execute(f"INSERT INTO orders (id, status) {rows}", 1, 200)
    world.until(connections=1)
    for number in range(5):
        client.send({"type": "subscribe", "ref": f"{number}!", "table": "Order Line"})
        client.send_frame(0x89, b"x")
    world.database.execute(f"INSERT INTO orders (id, status) {rows}", 201, 220)
    client.until(lambda: len(client.seen) >= 220 and client.kinds.count("ready") == 6)
    client.ask()
    assert client.ids() == list(range(1, 221))
    assert client.pongs == [b"x"] * 5
