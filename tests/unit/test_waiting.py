"""Waiting in a process without gevent: descriptors, wake-ups, deadlines, and a peer that leaves."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator

import gevent
import pytest

from pgevents_push import waiting
from pgevents_push.errors import ConnectionLost
from pgevents_push.listener.addresses import resolve
from pgevents_push.listener.wake import Wake
from pgevents_push.transports import departures

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_this_process_is_not_cooperative() -> None:
    assert not waiting.cooperative()
    assert not waiting.half_patched()


def test_wait_any_tells_which_is_ready(pair: Pair) -> None:
    one, other = pair
    assert waiting.wait_any((one.fileno(), other.fileno()), (), 0) == set()
    one.send(b"x")
    assert waiting.wait_any((one.fileno(), other.fileno()), (), 5) == {other.fileno()}
    assert waiting.wait_any((), (one.fileno(),), 5) == {one.fileno()}


def test_wait_any_keeps_its_timeout(pair: Pair) -> None:
    began = time.monotonic()
    assert waiting.wait_any((pair[0].fileno(),), (), 0.02) == set()
    assert 0.015 < time.monotonic() - began < 2


def test_wait_any_under_gevent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "cooperative", lambda: True)
    one, other = pair
    began = time.monotonic()
    assert waiting.wait_any((one.fileno(), other.fileno()), (), 0) == set()
    assert waiting.wait_any((one.fileno(),), (), 0.02) == set()
    assert 0.015 < time.monotonic() - began < 2
    gevent.spawn(one.send, b"x")
    assert waiting.wait_any((one.fileno(), other.fileno()), (), None) == {other.fileno()}
    assert waiting.wait_any((other.fileno(),), (), 0) == {other.fileno()}, "what is ready comes before the time limit"
    assert waiting.wait_any((), (one.fileno(),), 5) == {one.fileno()}
    gone = other.fileno()
    other.close()
    assert waiting.wait_any((gone,), (), 5) == {gone}, "closed is ready, and not for ever silent"


def test_a_watch_waits_again_and_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    for cooperative in (False, True):
        monkeypatch.setattr(waiting, "cooperative", lambda value=cooperative: value)
        one, other = pair
        fds = (one.fileno(), other.fileno())
        watch = waiting.Watch(*fds)
        for _ in range(3):
            began = time.monotonic()
            assert watch.wait(fds, 0.02) == set()
            assert 0.015 < time.monotonic() - began < 2
            assert watch.wait(fds, 0) == set()
            one.send(b"x")
            assert watch.wait(fds[:1], 0.02) == set(), "the other one is not waited for"
            assert watch.wait(fds, 5) == {other.fileno()}
            assert watch.wait(fds, 0) == {other.fileno()}, "what is ready comes before the time limit"
            assert other.recv(1) == b"x"
        watch.close()
        watch.close()


def test_a_watch_serves_another_thread_too(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "cooperative", lambda: True)
    one, other = pair
    watch = waiting.Watch(other.fileno())
    one.send(b"x")
    found: list[set[int]] = []
    thread = threading.Thread(target=lambda: found.append(watch.wait([other.fileno()], 5)))
    thread.start()
    thread.join(10)
    assert found == [{other.fileno()}]
    watch.close()


def test_what_is_readable_while_nobody_waits_does_not_keep_the_hub_busy(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "cooperative", lambda: True)
    one, other = pair
    watch = waiting.Watch(other.fileno())
    assert watch.wait([other.fileno()], 0) == set()
    one.send(b"x")
    used = time.process_time()
    gevent.sleep(0.3)
    assert time.process_time() - used < 0.15
    assert watch.wait([other.fileno()], 5) == {other.fileno()}
    watch.close()
    assert other.recv(1) == b"x", "and it is closed before its descriptor"


def test_a_descriptor_beyond_1024_is_no_problem(pair: Pair) -> None:
    high = os.dup2(pair[1].fileno(), 1500)
    try:
        pair[0].send(b"x")
        assert waiting.wait_any((high,), (), 5) == {high}
    finally:
        os.close(high)


def test_a_wake_wakes_until_it_is_cleared() -> None:
    wake = Wake()
    for _ in range(70_000):  # more than a pipe holds
        wake.set()
    assert waiting.wait_any((wake.fileno(),), (), 0) == {wake.fileno()}
    wake.clear()
    assert waiting.wait_any((wake.fileno(),), (), 0) == set()
    wake.set()
    threading.Thread(target=wake.clear).start()
    wake.close()
    wake.close()
    wake.set()


def test_a_wake_from_another_thread_ends_the_wait() -> None:
    wake = Wake()
    threading.Timer(0.02, wake.set).start()
    assert waiting.wait_any((wake.fileno(),), (), 5)
    wake.close()


def test_a_wake_is_not_closed_while_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wake, write, seen = Wake(), os.write, []
    closer = threading.Thread(target=wake.close)

    def slow(fd: int, data: bytes) -> int:
        closer.start()
        closer.join(0.1)
        os.fstat(fd)  # fails where it is closed: another file may have its number
        seen.append(fd)
        return write(fd, data)

    monkeypatch.setattr(os, "write", slow)
    wake.set()
    closer.join(5)
    assert len(seen) == 1
    assert wake.fileno() == -1


def test_peer_gone(pair: Pair) -> None:
    one, other = pair
    assert departures.peer_gone(one) is False
    other.send(b"x")
    assert departures.peer_gone(one) is None
    assert one.recv(1) == b"x"
    other.close()
    assert departures.peer_gone(one) is True
    one.close()
    assert departures.peer_gone(one) is True


def test_watch_departure_calls_back_when_the_peer_leaves(pair: Pair) -> None:
    gone = threading.Event()
    departures.watch_departure(pair[0], gone.set)
    assert not gone.wait(0.02)
    pair[1].close()
    assert gone.wait(30)


def test_watch_departure_can_be_stopped_and_the_descriptor_watched_again(pair: Pair) -> None:
    first, second = threading.Event(), threading.Event()
    stop = departures.watch_departure(pair[0], first.set)
    stop()
    stop()
    departures.watch_departure(pair[0], second.set)
    pair[1].close()
    assert second.wait(30)
    assert not first.is_set()


def test_send_all_sends_all_to_a_reader_that_is_slow(pair: Pair) -> None:
    one, other = pair
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    data, got = os.urandom(300_000), bytearray()

    def read() -> None:
        while len(got) < len(data):
            got.extend(other.recv(20_000))

    reader = threading.Thread(target=read)
    reader.start()
    waiting.send_all(one, data, 5)
    reader.join(30)
    assert bytes(got) == data


def test_send_all_gives_up_on_a_reader_that_takes_nothing(pair: Pair) -> None:
    with pytest.raises(ConnectionLost, match=r"took nothing for 0.05 s"):
        waiting.send_all(pair[0], b"x" * 5_000_000, 0.05)


def test_send_all_to_a_closed_peer_is_an_os_error(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises(OSError, match="Broken pipe"):
        waiting.send_all(pair[0], b"x", 1)


def test_spawn_runs_in_a_daemon_thread_with_a_name() -> None:
    found: list[threading.Thread] = []
    task = waiting.spawn(lambda: found.append(threading.current_thread()), name="pgevents-test")
    task.join(30)
    assert (found[0].name, found[0].daemon) == ("pgevents-test", True)


def test_run_blocking_returns_and_raises() -> None:
    assert waiting.run_blocking(max, 3, 4) == 4
    with pytest.raises(ZeroDivisionError):
        waiting.run_blocking(lambda: 1 / 0)


def test_a_duplicate_outlives_the_original(pair: Pair) -> None:
    one, other = pair
    copied = waiting.duplicate(one)
    one.close()
    copied.send(b"x")
    assert other.recv(1) == b"x"
    copied.close()


def test_a_host_is_resolved_and_an_unknown_one_is_not() -> None:
    assert "127.0.0.1" in resolve("localhost")
    assert resolve("::1") == ["::1"]
    assert resolve("no.such.host.invalid") == []
