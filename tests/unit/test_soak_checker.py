"""The soak's checker notices each kind of wrong: a perfect client, and the same one with its memory tampered with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.checker import PERFECT
from tests.faults.soak_checker import Logged, unlike_tables, verdict_of
from tests.faults.soak_clients import Client

Seen = list[dict[str, Any]]
LOG = [
    Logged(1, 10, "item", "i", {"id": 1}, None, {"id": 1, "n": 0}, False),
    Logged(2, 10, "item", "i", {"id": 2}, None, {"id": 2, "n": 0}, True),
    Logged(3, 11, "item", "u", {"id": 1}, None, {"id": 1, "n": 1}, True),
    Logged(4, 12, "item", "u", {"id": 3}, {"id": 2}, {"id": 3, "n": 1}, True),
    Logged(5, 13, "item", "t", {}, None, None, True),
    Logged(6, 14, "item", "i", {"id": 9}, None, {"id": 9, "n": 0}, True),
]
TYPES = {"i": "insert", "u": "update", "d": "delete", "t": "truncate"}


def client() -> Client:
    made = Client("test", 0, ["item"])
    made.start = "abcd~10:10:"
    for row in LOG:
        old_pk = {"old_pk": row.old_pk} if row.old_pk else {}
        data = {"id": str(row.id), "tx": str(row.xid), "type": TYPES[row.type], "table": row.table, "pk": row.pk}
        made.seen.append({**data, **old_pk, "row": row.row, "last": row.last})
    return made


def test_perfect() -> None:
    assert verdict_of(LOG, client()) == PERFECT


def swap(seen: Seen, a: int, b: int) -> None:
    seen[a], seen[b] = seen[b], seen[a]


@pytest.mark.parametrize(
    ("kind", "tamper"),
    [
        ("missed", lambda seen: seen.pop(3)),
        ("missed", lambda seen: seen.pop()),
        ("duplicated", lambda seen: seen.append(seen[-1])),
        ("reordered", lambda seen: swap(seen, 0, 2)),
        ("reordered", lambda seen: swap(seen, 4, 5)),
        ("reordered", lambda seen: swap(seen, 3, 4)),
        ("split", lambda seen: swap(seen, 1, 2)),
        ("split", lambda seen: swap(seen, 0, 1)),
        ("wrong", lambda seen: seen[0].update(row={"id": 1, "n": 7})),
        ("wrong", lambda seen: seen[3].pop("old_pk")),
        ("wrong", lambda seen: seen[3].update(id="77")),
    ],
)
def test_each_kind_of_wrong(kind: str, tamper: Callable[[Seen], Any]) -> None:
    tampered = client()
    tamper(tampered.seen)
    assert getattr(verdict_of(LOG, tampered), kind) > 0


def test_the_log_played_upon_the_tables() -> None:
    before = [("item", {"id": 5, "n": 5})]
    assert unlike_tables(LOG[:4], before, [*before, ("item", {"id": 1, "n": 1}), ("item", {"id": 3, "n": 1})]) == []
    assert unlike_tables(LOG, before, [("item", {"id": 9, "n": 0})]) == []
    assert unlike_tables(LOG, before, [("item", {"id": 9, "n": 1})])
    assert unlike_tables(LOG[:-1], before, [("item", {"id": 9, "n": 0})])
