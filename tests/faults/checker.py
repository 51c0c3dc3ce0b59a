"""Checker: compares what somebody saw with the truth, and counts what is wrong; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

TRUTH = """
SELECT id, xid::text, table_name || pk, coalesce(new_row, old_row)::json ->> 'version',
       id = max(id) OVER (PARTITION BY xid), type::text, table_name
FROM pgevents.log ORDER BY id
"""


class Change(NamedTuple):
    """One change as it is known on both sides. `row` names the row, `version` counts its changes."""

    id: int
    tx: str
    row: str
    version: int
    last: bool


class Verdict(NamedTuple):
    """How many changes were missed, delivered twice, came before an older one of the same row, came in a
    transaction that was torn apart, or were never made or are not what they were; and how often somebody was not
    resumed and not told of the gap."""

    missed: int = 0
    duplicated: int = 0
    reordered: int = 0
    split: int = 0
    wrong: int = 0
    silent: int = 0


PERFECT = Verdict()


def check(truth: Collection[Change], seen: Sequence[Change]) -> Verdict:
    """Compare; `truth` may be in any order."""
    times = Counter(change.id for change in seen)
    known = {change.id: change for change in truth}
    return Verdict(
        missed=sum(change.id not in times for change in truth),
        duplicated=sum(n - 1 for n in times.values()),
        reordered=_reordered(seen),
        split=_split(seen),
        wrong=sum(known.get(change.id) != change for change in seen),
    )


def _reordered(seen: Iterable[Change]) -> int:
    """How often a row's version is lower than one of the same row that was seen before."""
    highest: dict[str, tuple[int, int]] = {}
    count = 0
    for change in seen:
        # A row that was deleted and made again starts at version 1 again: ids tell its lives apart.
        now = (change.id, change.version)
        before = highest.get(change.row, (0, 0))
        count += now < before or (change.version < before[1] and change.version != 1)
        highest[change.row] = max(now, before)
    return count


def _split(seen: Sequence[Change]) -> int:
    """How many transactions came in more than one piece, had their last change elsewhere than at their end, or
    had their own changes in another order."""
    runs = [(tx, list(changes)) for tx, changes in groupby(seen, key=lambda change: change.tx)]
    times = Counter(tx for tx, _ in runs)
    torn = sum(n - 1 for n in times.values())
    misplaced = sum(any(c.last for c in changes[:-1]) for _, changes in runs)
    return torn + misplaced + sum([c.id for c in changes] != sorted(c.id for c in changes) for _, changes in runs)


def from_json(table: str, data: dict[str, Any]) -> Change:
    """Make a change of the object that a browser gets. JSON's spelling of the key is made PostgreSQL's."""
    row = data["row"] or data["old"]
    return change_of(data, table, row["version"])


def change_of(data: dict[str, Any], table: str, version: int) -> Change:
    key = "{" + ",".join(f'"{name}":{value}' for name, value in data["pk"].items()) + "}"
    return Change(int(data["id"]), data["tx"], table + key, int(version), bool(data["last"]))
