"""What a change costs the hub with many subscribers of whom it concerns one: the mailbox's side, without sockets.

Each subscriber sees the rows of one owner, by a filter or by rights that `authorize` returned. A change of a row, as
the log has it, is judged before and after, encoded for SSE and put into the mailbox of its owner; then one that moves
a row to another owner. The three sizes take turns, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import gc
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence

import psutil
import sqlalchemy as sa

from pgevents_push import PGEvents
from pgevents_push.cursor import Snapshot
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.hub import Definition, Hub, Subscription
from pgevents_push.hub.columns import Column
from pgevents_push.transports.gate import Gate
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.rights import SubscriptionRequest
from pgevents_push.transports.sse_format import encode_json
from tests.bench.printing import Row

SIZES = (1, 100, 10_000)
EVENTS, ROUNDS = 200, 25
ORDERS = TableName("public", "orders")
TYPES = {"id": "integer", "owner_id": "integer", "status": "text", "total": "numeric", "note": "text"}
COLUMNS = {name: Column(name, kind, table=ORDERS) for name, kind in TYPES.items()}
TABLE = sa.Table("orders", sa.MetaData(), *(sa.Column(name, sa.Integer) for name in COLUMNS))
ROW = {"id": 1, "owner_id": 0, "status": "open", "total": 12.5, "note": "something that somebody wrote " * 8}


class Crowd:
    """A hub with its subscribers, and the time that changes took it."""

    def __init__(self, size: int, by_rights: bool) -> None:
        self.hub = Hub()
        self.hub.publish([], "abcd~1:1:")
        before = _memory()
        owners = iter(range(size))
        self.mailboxes = [self._join(gate, filters) for gate, filters in _requests(by_rights, owners, size)]
        self.bytes_each = (_memory() - before) / size
        self.seconds: list[float] = []

    def _join(self, gate: Gate, filters: tuple[str, ...]) -> Subscription:
        mailbox = self.hub.connect(10**9)
        view = gate.open(TableRequest("orders", frozenset(CHANGE_TYPES), None, filters), "sse").view(encode_json)
        assert self.hub.subscribe(mailbox, [view], 0) is not None
        return mailbox

    def publish(self, events: Sequence[ChangeEvent]) -> None:
        began = time.perf_counter()
        self.hub.publish(events, "abcd~2:2:")
        self.seconds.append((time.perf_counter() - began) / len(events))
        got = sum(len(mailbox.take(0)) for mailbox in self.mailboxes)
        assert got == len(events), "each change concerns one"

    @property
    def microseconds(self) -> float:
        return statistics.median(self.seconds) * 1e6


def _requests(by_rights: bool, owners: Iterator[int], size: int) -> Iterator[tuple[Gate, tuple[str, ...]]]:
    def own(subscription: SubscriptionRequest) -> object:
        return TABLE.c.owner_id == next(owners)

    events = PGEvents()
    events.expose(TABLE, **({"authorize": own} if by_rights else {"public": True}))
    definition = Definition(COLUMNS, dict.fromkeys(COLUMNS, "700"), Snapshot(800, 800), 800)
    gate = Gate(events.declarations.exposures("public"), "public", lambda table: definition)
    return ((gate, () if by_rights else (f"owner_id=eq.{n}",)) for n in range(size))


def _memory() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _update(number: int, old: dict[str, object], new: dict[str, object]) -> ChangeEvent:
    return ChangeEvent(
        id=str(number), type="update", schema="public", table="orders", tx="700", last=True,
        at_text="2026-11-23T14:00:00.123456+00:00", cursor="abcd~760:760:", pk_json='{"id": 1}',
        row_json=json.dumps(new), old_json=json.dumps(old), changed_json=json.dumps(list(old)),
    )  # fmt: skip


def measure() -> list[Row]:
    stays = [_update(n, {"total": n}, ROW) for n in range(EVENTS)]
    # From somebody who does not subscribe: one look-up finds nobody, the other one the owner.
    moves = [_update(n, {"owner_id": -1}, ROW) for n in range(EVENTS)]
    return [
        *_rows("one of N concerned, filter", stays, by_rights=False),
        *_rows("one of N concerned, rights", stays, by_rights=True),
        *_rows("the row moves to one of N", moves, by_rights=True),
    ]


def _rows(what: str, events: Sequence[ChangeEvent], by_rights: bool) -> list[Row]:
    crowds = {size: Crowd(size, by_rights) for size in SIZES}
    for _, crowd in itertools.product(range(ROUNDS), crowds.values()):
        crowd.publish(events)
    one = crowds[1].microseconds
    how = f"hub only, median of {ROUNDS} x {EVENTS} updates"
    rows = [
        Row(f"{what}: N = {size}", f"{crowd.microseconds:.1f} us, {crowd.microseconds / one:.2f}x", "<= 1.3x", how)
        for size, crowd in crowds.items()
    ]
    return [*rows, Row(f"{what}: memory of a subscriber", f"{crowds[SIZES[-1]].bytes_each / 1000:.1f} kB", "", how)]


if __name__ == "__main__":
    for row in measure():
        print(row.what, row.value, sep="  ")
