"""The hand-over between who reads rows and who sends them: bounded, woken, with a named end."""

from __future__ import annotations

import threading
import time

import pytest

from pgevents_push.errors import ConnectionLost
from pgevents_push.event import TableName
from pgevents_push.hub import Chunk, Shipment


def chunk(text: str) -> Chunk:
    return Chunk(TableName("public", "t"), (text,), first=True, last=True)


def shipment(most: int = 10) -> tuple[Shipment, list[int]]:
    woken: list[int] = []
    return Shipment(lambda each: each.rows[0].encode(), most, lambda: woken.append(1)), woken


def test_frames_come_out_in_order_and_wake() -> None:
    made, woken = shipment()
    assert [made.put(chunk(text), 0) for text in ("a", "b")] == [True, True]
    assert len(woken) == 2
    assert not made.done
    made.finish()
    assert not made.done
    assert [made.take(), made.take(), made.take()] == [b"a", b"b", None]
    assert made.done
    assert len(woken) == 3


def test_one_frame_always_fits_and_a_second_one_waits_for_room() -> None:
    made, _ = shipment(most=3)
    assert made.put(chunk("12345"), 0)
    assert not made.put(chunk("6"), 0.01)
    taken: list[bytes | None] = []
    timer = threading.Timer(0.05, lambda: taken.append(made.take()))
    timer.start()
    assert made.put(chunk("6"), 10)
    timer.join()
    assert [*taken, made.take()] == [b"12345", b"6"]


def test_who_left_is_not_waited_for() -> None:
    made, _ = shipment(most=3)
    made.put(chunk("12345"), 0)
    threading.Timer(0.05, made.close).start()
    began = time.monotonic()
    assert not made.put(chunk("6"), 10)
    assert time.monotonic() - began < 5
    assert made.closed
    assert made.take() is None


def test_a_failure_forgets_what_waits() -> None:
    made, woken = shipment()
    made.put(chunk("a"), 0)
    made.fail(ConnectionLost("gone"))
    assert len(woken) == 2
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="gone"):
            made.take()
