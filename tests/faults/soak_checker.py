"""Checker of the soak, offline: the truth is SQL's, from the log and from the tables; counts what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from pgevents_push.cursor import Cursor
from tests.faults.checker import Change, Verdict, check
from tests.faults.soak_clients import Client, Frame

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


class Segment(NamedTuple):
    """What a client got from one cursor on, until it was told of a gap: between these it must miss nothing.

    :param until: the last cursor before the gap; empty when none came, then all must have arrived.
    """

    start: str
    until: str
    seen: list[dict[str, Any]]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _known(row: Any) -> Any:
    return row and {name: row[name] for name in _COLUMNS if name in row}


def segments(frames: Iterable[Frame]) -> list[Segment]:
    """Cut a client's life at its gaps. What a gap excuses lies between two segments, and nowhere else."""
    found: list[Segment] = []
    cursor = ""
    for frame in frames:
        if frame.name == "gap" or (frame.name == "ready" and not found):
            found = [*found[:-1], *(segment._replace(until=cursor) for segment in found[-1:])]
            found.append(Segment(frame.cursor, "", []))
        elif frame.is_change:
            found[-1].seen.append(frame.data)
        if frame.name != "ready" or frame.data["resumed"]:  # else it is the cursor behind the gap, which follows
            cursor = frame.cursor or cursor
    return found


def silent_gaps(frames: Sequence[Frame]) -> int:
    """How often somebody named a cursor, was not resumed, and was not told of a gap next."""
    named, count = "", 0
    for frame, following in zip(frames, [*frames[1:], None], strict=True):
        if frame.name == "connect":
            named = frame.cursor
        elif frame.name == "ready" and named and not frame.data["resumed"]:
            count += following is None or following.name != "gap"
    return count


def verdict_of(log: Sequence[Logged], client: Client, whole: bool = False) -> Verdict:
    """What is wrong with all that one client has seen in its life.

    :param whole: it was ready before the first row of this log, so it must have seen all, whatever its cursors say.
    """
    parts = segments(client.frames)
    if not parts:
        return Verdict()
    mine = [row for row in log if row.table in client.tables]
    seen = [data for part in parts for data in part.seen]
    had = delivered(parts[0].start, log)
    from_start = mine if whole else [row for row in mine if not had(row)]
    ids = {int(data["id"]) for data in seen}
    verdict = check([row.change for row in from_start], list(map(_change, seen)))
    return verdict._replace(
        missed=sum(row.id not in ids for row in _due(parts, log, from_start)),
        reordered=verdict.reordered + _around_truncates(seen),
        wrong=verdict.wrong + _garbled(from_start, seen),
        silent=silent_gaps(client.frames),
    )


def _change(data: dict[str, Any]) -> Change:
    return Change(int(data["id"]), data["tx"], f"{data['table']}{_text(data['pk'])}", 1, data["last"])


def _due(parts: Sequence[Segment], log: Sequence[Logged], rows: Sequence[Logged]) -> list[Logged]:
    """Those of the rows that lie within a segment, where no gap excuses that they are missed."""
    spans = [
        (delivered(part.start, log) if at else lambda row: False,
         delivered(part.until, log) if part.until else lambda row: True)
        for at, part in enumerate(parts)
    ]  # fmt: skip
    return [row for row in rows if any(after(row) and not before(row) for before, after in spans)]


def delivered(text: str, log: Iterable[Logged]) -> Callable[[Logged], bool]:
    """Return what tells of a row whether somebody at this cursor has got it already."""
    cursor = Cursor.parse(text)
    ends = {row.xid: row.id for row in log if row.last}
    ours = {row.id: row.xid for row in log}
    until, place = cursor.until, (ends.get(ours.get(cursor.last_id, 0), cursor.last_id), cursor.last_id)

    def is_delivered(row: Logged) -> bool:
        if until is None or cursor.snapshot.sees(row.xid):
            return cursor.snapshot.sees(row.xid)
        return until.sees(row.xid) and (ends[row.xid], row.id) <= place

    return is_delivered


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
