"""History against a model: whatever was published, and wherever a client was, memory gives what the log would."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgevents_push.cursor import Cursor, Snapshot
from pgevents_push.event import ChangeEvent
from pgevents_push.hub.history import History, between

EPOCH = "abcd"


class Cluster:
    """Transactions that begin, write and end in any order, and readers that look now and then."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.next_xid, self.next_id = 10, 1
        self.running: dict[int, list[int]] = {}
        self.committed: dict[int, list[int]] = {}

    def step(self) -> None:
        if not self.running or self.chance.random() < 0.3:
            self.running[self.next_xid] = []
            self.next_xid += 1
        xid = self.chance.choice(sorted(self.running))
        if self.chance.random() < 0.6:
            self.running[xid].append(self.next_id)
            self.next_id += 1
        else:
            self.committed[xid] = self.running.pop(xid)

    def snapshot(self) -> Snapshot:
        return Snapshot(min([*self.running, self.next_xid]), self.next_xid, tuple(sorted(self.running)))

    def batch(self, start: Snapshot, until: Snapshot) -> list[tuple[int, int]]:
        """(xid, id) of what became visible, in the order of the log's reader."""
        seen = [x for x, ids in self.committed.items() if ids and until.sees(x) and not start.sees(x)]
        return [(x, i) for x in sorted(seen, key=lambda x: self.committed[x][-1]) for i in self.committed[x]]


def event(xid: int, id_: int, cursor: Cursor) -> ChangeEvent:
    return ChangeEvent(
        id=str(id_), type="insert", schema="public", table="t", tx=str(xid), last=False, at_text="", cursor=str(cursor)
    )


@pytest.mark.parametrize("several", [True, False])
def test_a_page_costs_what_it_holds(several: bool) -> None:
    """Not what was missed: a page of 10 looked at all 3,000 changes, each of them a moment without live ones."""

    class Counting(str):
        looked = 0

        def __int__(self) -> int:
            Counting.looked += 1
            return int(str(self))

    history, start, end = History(10**9), Snapshot(10, 10), Snapshot(3_010, 3_010)
    history.begin(str(Cursor(EPOCH, start)))
    if several:  # a batch each, or all in one
        for xid in range(10, 3_010):
            after = Cursor(EPOCH, Snapshot(xid + 1, xid + 1))
            history.keep([event(xid, xid, after).replace(tx=Counting(xid))], str(after))
        since = Cursor(EPOCH, Snapshot(12, 13, (12,)))
    else:
        made = [event(10, n, Cursor(EPOCH, start, end, n)).replace(tx=Counting(10)) for n in range(10, 3_010)]
        history.keep(made, str(Cursor(EPOCH, end)))
        since = Cursor(EPOCH, start, end, 11)
    found = remembered(history, since, end, 10)
    assert found is not None
    assert [int(e.id) for e in found] == list(range(12, 22))
    assert Counting.looked < 50


def test_few_of_the_pieces_are_asked_where_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 pieces all were asked, three times, for each client that came back: 3 ms without live changes."""
    history, asked, covers = History(10**9), list[Snapshot](), Snapshot.covers

    def count(snapshot: Snapshot, other: Snapshot) -> bool:
        asked.append(other)
        return covers(snapshot, other)

    history.begin(f"{EPOCH}~10:10:")
    for xid in range(10, 3_010):
        after = Cursor(EPOCH, Snapshot(xid + 1, xid + 1))
        history.keep([event(xid, xid, after)], str(after))
    monkeypatch.setattr(Snapshot, "covers", count)
    found = remembered(history, Cursor(EPOCH, Snapshot(20, 20)), Snapshot(2_010, 2_010))
    assert found is not None
    assert [int(e.id) for e in found] == list(range(20, 2_010))
    assert len(asked) < 60


def pieces(batch: list[tuple[int, int]], chance: random.Random) -> Iterator[list[tuple[int, int]]]:
    while batch:
        size = chance.randint(1, len(batch))
        yield batch[:size]
        batch = batch[size:]


@given(st.integers(0, 2**32), st.sampled_from([2_000, 20_000, 10**9]))
def test_memory_gives_what_the_log_would(seed: int, max_bytes: int) -> None:
    chance = random.Random(seed)
    cluster, history = Cluster(chance), History(max_bytes)
    position = cluster.snapshot()
    history.begin(str(Cursor(EPOCH, position)))
    other, ends = [position], [position]
    for _ in range(chance.randint(1, 12)):
        for _ in range(chance.randint(1, 12)):
            cluster.step()
            if chance.random() < 0.2:
                other.append(cluster.snapshot())  # where a client of another process is
        until = cluster.snapshot()
        batch = cluster.batch(position, until)
        for piece in pieces(batch, chance):
            inner = Cursor(EPOCH, position, until, piece[-1][1])
            whole = piece[-1] == batch[-1]
            cursors = [Cursor(EPOCH, position, until, id_) for _, id_ in piece[:-1]] + [
                Cursor(EPOCH, until) if whole else inner
            ]
            made = [event(*change, cursor) for change, cursor in zip(piece, cursors, strict=True)]
            history.keep(made, str(cursors[-1]))
        position = until
        ends.append(position)
    since = cursor_of_a_client(cluster, chance, other, position)
    found = remembered(history, since, position)
    if found is not None:
        assert [int(e.id) for e in found] == expected(cluster, since, ends)
        assert set(expected(cluster, since, ends)) == set(expected(cluster, since, [position]))
        follow_each_cursor(history, found, position)
        assert page_by_page(history, since, position, chance.randint(1, 5)) == [e.id for e in found]
    elif max_bytes == 10**9:
        assert not since.snapshot.covers(other[0]) or since.until is not None


def remembered(history: History, since: Cursor, until: Snapshot, most: int = 10**9) -> list[ChangeEvent] | None:
    pieces = history.after(since)
    return None if pieces is None else between(pieces, since, until, most)


def page_by_page(history: History, since: Cursor, until: Snapshot, most: int) -> list[str]:
    ids: list[str] = []
    while since != Cursor(EPOCH, until):
        page = remembered(history, since, until, most)
        assert page is not None
        assert len(page) <= most
        ids += [event.id for event in page]
        since = Cursor.parse(page[-1].cursor) if len(page) == most else Cursor(EPOCH, until)
    return ids


def cursor_of_a_client(cluster: Cluster, chance: random.Random, other: list[Snapshot], position: Snapshot) -> Cursor:
    at = chance.randrange(len(other))
    start, until = other[at], chance.choice([*other[at:], position])
    batch = cluster.batch(start, until)
    if not position.covers(until) or not batch or chance.random() < 0.5:
        return Cursor(EPOCH, start)
    return Cursor(EPOCH, start, until, chance.choice(batch)[1])


def expected(cluster: Cluster, since: Cursor, ends: list[Snapshot]) -> list[int]:
    """To the first end of a batch that knows as much as the client does, then from one to the next, as the listener
    went: changes that it saw at different moments are not put in another order. (The last end is always past him.)"""
    reached = since.reached
    later = [end for end in ends if end.covers(reached)]
    found = [] if since.until is None else batch_ids(cluster, since.snapshot, since.until)
    found = found[found.index(since.last_id) + 1 :] if found else []
    for start, end in zip([reached, *later], later, strict=False):
        found += batch_ids(cluster, start, end)
    return found


def batch_ids(cluster: Cluster, start: Snapshot, end: Snapshot) -> list[int]:
    return [id_ for _, id_ in cluster.batch(start, end)]


def follow_each_cursor(history: History, found: list[ChangeEvent], position: Snapshot) -> None:
    """From each event's own cursor exactly the events behind it come."""
    for at, change in enumerate(found):
        rest = remembered(history, Cursor.parse(change.cursor), position)
        assert rest is not None
        assert [e.id for e in rest] == [e.id for e in found[at + 1 :]]
