"""Checker of the soak, offline: the truth is SQL's, from the log and from the tables; counts what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pgevents_push.cursor import Cursor
from tests.faults.checker import Change, Verdict, check
from tests.faults.soak_clients import Client

LOG = """
SELECT id, xid::text::bigint, table_name, type::text, pk::json, old_pk::json, new_row::json,
       id = max(id) OVER (PARTITION BY xid)
FROM pgevents.log ORDER BY id
"""
_TYPES = {"i": "insert", "u": "update", "d": "delete", "t": "truncate"}
# What every row has; a column that comes and goes is nobody's truth.
_COLUMNS = ("id", "n", "item_id", "region", "note")


class Logged(NamedTuple):
    """A row of the log."""

    id: int
    xid: int
    table: str
    type: str
    pk: Any
    old_pk: Any
    row: Any
    last: bool

    @property
    def change(self) -> Change:
        return Change(self.id, str(self.xid), f"{self.table}{_text(self.pk)}", 1, self.last)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _known(row: Any) -> Any:
    return row and {name: row[name] for name in _COLUMNS if name in row}


def verdict_of(log: Sequence[Logged], client: Client) -> Verdict:
    """What is wrong with all that one client has seen in its life. Told of a gap it may have missed some."""
    if not client.start:
        return Verdict()
    start = Cursor.parse(client.start).reached
    truth = [row for row in log if row.table in client.tables and not start.sees(row.xid)]
    seen = [Change(int(d["id"]), d["tx"], f"{d['table']}{_text(d['pk'])}", 1, d["last"]) for d in client.seen]
    verdict = check([row.change for row in truth], seen)
    return verdict._replace(
        missed=0 if client.gaps else verdict.missed,
        reordered=verdict.reordered + _around_truncates(client.seen),
        wrong=verdict.wrong + _garbled(truth, client.seen),
    )


def _around_truncates(seen: Iterable[dict[str, Any]]) -> int:
    """How many changes came on the wrong side of a TRUNCATE of their table, which locks out all others."""
    count, newest, emptied = 0, dict[str, int](), dict[str, int]()
    for data in seen:
        id_, table = int(data["id"]), data["table"]
        is_truncate = data["type"] == "truncate"
        count += id_ < emptied.get(table, 0) or (is_truncate and id_ < newest.get(table, 0))
        newest[table] = max(id_, newest.get(table, 0))
        if is_truncate:
            emptied[table] = id_
    return count


def _garbled(truth: Iterable[Logged], seen: Iterable[dict[str, Any]]) -> int:
    """How many changes have another type, key or row than the log says."""
    logged = {row.id: (_TYPES[row.type], row.pk, row.old_pk, _known(row.row)) for row in truth}
    return sum(
        int(d["id"]) in logged
        and logged[int(d["id"])] != (d["type"], d["pk"], d.get("old_pk"), _known(d["row"]))
        for d in seen
    )  # fmt: skip


Rows = Iterable[tuple[str, Any]]


def unlike_tables(log: Iterable[Logged], before: Rows, after: Rows) -> list[str]:
    """Play the log upon the rows of `before`; return what differs from those of `after`, a few words each.

    :param before, after: (table, row) of all rows.
    """
    state = {(table, _key(table, row)): _known(row) for table, row in before}
    for change in log:
        if change.type == "t":
            state = {key: row for key, row in state.items() if key[0] != change.table}
            continue
        # Keys of `pair` are swapped and never vanish: the first half of a swap overwrites the other row.
        if change.type == "d" or (change.old_pk and change.table != "pair"):
            state.pop((change.table, _text(change.old_pk or change.pk)), None)
        if change.type != "d":
            state[change.table, _text(change.pk)] = _known(change.row)
    wanted = {(table, _key(table, row)): _known(row) for table, row in after}
    return [f"{key}: {state.get(key)} != {wanted.get(key)}" for key in state.keys() | wanted.keys()
            if state.get(key) != wanted.get(key)]  # fmt: skip


def _key(table: str, row: Any) -> str:
    return _text({name: row[name] for name in (("id", "region") if table == "part" else ("id",))})
