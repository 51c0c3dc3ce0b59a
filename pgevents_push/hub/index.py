"""Index: the groups of one table, found by what they compare for equality, so that a change costs those it concerns."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

from pgevents_push.hub.columns import Column
from pgevents_push.hub.condition import index_key
from pgevents_push.hub.group import Group
from pgevents_push.hub.sight import Row, Sight
from pgevents_push.hub.view import View

# A group is filed under every combination of the values that it compares with, `a in (…) and b in (…)`; from so many
# on the longest of these lists is left to the condition itself.
MOST_KEYS = 1000

Columns = tuple[Column, ...]
Key = tuple[Hashable, ...]
Drawer = dict[Key, dict[Group, None]]


class Index:
    """Files each group under the columns that it compares for equality and the values that it wants there.

    A change is looked up once for each set of columns that is in use: with its row as it is and, when it changed one
    of them, as it was. Only the groups found are asked whether their condition holds, and those that compare nothing
    for equality. Ten thousand groups with `owner_id = N` cost two look-ups.
    """

    def __init__(self) -> None:
        self._always: dict[Group, None] = {}
        self._drawers: dict[Columns, Drawer] = {}

    def add(self, group: Group) -> None:
        columns, keys = _terms(group.view)
        if not columns:
            self._always[group] = None
            return
        for key in keys:
            self._drawers.setdefault(columns, {}).setdefault(key, {})[group] = None

    def remove(self, group: Group) -> None:
        columns, keys = _terms(group.view)
        if not columns:
            del self._always[group]
            return
        drawer = self._drawers.get(columns, {})  # a contradiction, `a = 1 and a = 2`, is filed nowhere
        for key in keys:
            del drawer[key][group]
            if not drawer[key]:
                del drawer[key]
        if not drawer:
            self._drawers.pop(columns, None)

    def concerned(self, sight: Sight) -> Iterable[Group]:
        """Return the groups that a change may concern: at least all whose condition holds before or after it."""
        if not self._drawers:
            return self._always
        found = dict(self._always)
        for columns, drawer in self._drawers.items():
            for groups in _look_up(sight, columns, drawer):
                found.update(groups)
        return found


def _look_up(sight: Sight, columns: Columns, drawer: Drawer) -> Iterable[dict[Group, None]]:
    event = sight.event
    rows = [row for row in (sight.new, sight.old) if row is not None]
    if event.type == "update" and not event.truncated and sight.replaced.keys().isdisjoint(c.name for c in columns):
        rows = rows[:1]
    try:
        keys = [_key(columns, row) for row in rows]
    except Exception:  # too large to be known, or not of the type that it had: each condition must say so for itself
        return drawer.values()
    return [drawer[key] for key in keys if key in drawer]


def _key(columns: Columns, row: Row) -> Key:
    return tuple([index_key(column, row[column.name]) for column in columns])


def _terms(view: View) -> tuple[Columns, Iterable[Key]]:
    """Return the columns under which a view is filed, and under which values."""
    if view.condition is None:
        return (), ()
    known = {column.name: column for column in view.condition.predicate.reads}
    chosen: list[tuple[Column, Sequence[Hashable]]] = []
    combinations = 1
    for name, values in sorted(view.condition.equalities.items(), key=lambda term: len(term[1])):
        combinations *= len(values)
        if combinations > MOST_KEYS:
            break
        chosen.append((known[name], tuple(values)))
    chosen.sort(key=lambda term: term[0].name)
    return tuple(column for column, _ in chosen), itertools.product(*(values for _, values in chosen))
