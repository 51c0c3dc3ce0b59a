"""Sight: what one change is to those who see a part of the rows: an insert, an update, a delete or nothing; pure."""

from __future__ import annotations

import logging
import operator
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pgevents_push.event import CHANGE_TYPES, ChangeEvent, ChangeType, EventType, Gap, GapReason, decode
from pgevents_push.hub.condition import Condition, index_key
from pgevents_push.hub.view import View

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
Allowed = tuple[bool, bool]
BOTH: Allowed = (True, True)

# What may become of a change whose row cannot be judged.
_OUTCOMES: dict[EventType, frozenset[ChangeType]] = {
    "insert": frozenset({"insert"}),
    "update": frozenset({"insert", "update", "delete"}),
    "delete": frozenset({"delete"}),
    "gap": frozenset(CHANGE_TYPES),
}


class _Unjudged(Exception):
    """The row cannot be judged; why is what the client is told."""

    def __init__(self, reason: GapReason) -> None:
        self.reason: GapReason = reason


class Sight:
    """One change, as the views of its table see it. Its row is decoded once, and only when a view compares
    something; what several views show alike is encoded once.

    A condition is asked about the row as it was and as it is. In both: the change itself. Only now: an insert. Only
    before: a delete with the key alone, under which the client knows the row, and nothing of what it is now.

    :param counts: where failures are counted.
    """

    def __init__(self, event: ChangeEvent, counts: Counter[str]) -> None:
        self.event = event
        self._counts = counts
        self._frames: dict[object, bytes | None] = {}
        # What `_note` said, and how the change itself was shown last: mostly the next view compares the same columns
        # and shows the same, which is then not put together again.
        self._columns: frozenset[str] | None = None
        self._rows: list[Row] = []
        self._face: object = None
        self._frame: bytes | None = None

    @property
    def of_no_row(self) -> bool:
        """Whether it is about the table: that it was emptied, or that changes of it may be missing."""
        return self.event.type in ("truncate", "gap")

    def frame(self, view: View, allowed: Allowed = BOTH) -> bytes | None:
        """Return the bytes for a view, None when it sees nothing of the change.

        :param allowed: whether somebody else lets it see the row before the change, and now.
        """
        condition = view.condition
        if condition is not None and condition.columns is self._columns and allowed is BOTH:
            try:
                held = set(map(condition.holds, self._rows))
            except Exception:  # it is judged, and told of, below
                held = {True, False}
            if len(held) == 1:
                return self._itself(view) if True in held else None
        if self.event.type == "gap":
            return self.gap(view, "schema")
        try:
            seen = self._seen(view.condition, allowed)
        except _Unjudged as unjudged:
            return self.gap(view, unjudged.reason)
        if seen is None or seen.type not in view.types:
            return None
        return self._encoded(seen, view)

    def _itself(self, view: View) -> bytes | None:
        """Return the change itself."""
        if self.event.type not in view.types:
            return None
        if view.face is not self._face:
            self._face, self._frame = view.face, self._encoded(self.event, view)
        return self._frame

    def _encoded(self, seen: ChangeEvent, view: View) -> bytes | None:
        key = (seen.type, view.face)
        if key not in self._frames:
            self._frames[key] = view.encode(seen, view)
        return self._frames[key]

    def may_concern(self, view: View) -> bool:
        """Whether a view shows something of the change, if somebody else allows it."""
        if view.types.isdisjoint(_OUTCOMES[self.event.type]):
            return False
        try:
            return any(self.held(view.condition))
        except _Unjudged:
            return True

    def gap(self, view: View, reason: GapReason) -> bytes | None:
        """Return what a view gets of a row that cannot be judged. Never the row, and never nothing where it may be one
        that the client should have got."""
        if view.types.isdisjoint(_OUTCOMES[self.event.type]):
            return None
        return view.encode(Gap(reason, self.event.cursor), view)

    def _seen(self, condition: Condition | None, allowed: Allowed) -> ChangeEvent | None:
        if (condition is None and allowed == BOTH) or self.event.type == "truncate":
            return self.event
        held = self.held(condition)
        before, now = held if allowed is BOTH else map(operator.and_, allowed, held)
        if now:
            return self.event if before else self._entered
        return self._left if before else None

    def held(self, condition: Condition | None) -> Allowed:
        """Whether the condition held for the row before the change, and does now."""
        if condition is None:
            return self.event.type != "insert", self.event.type != "delete"
        new = self.new
        now = new is not None and self._holds(condition, new)
        if self.event.type == "insert":
            self._note(condition, new)
            return False, now
        if self._untouched(condition):
            self._note(condition, new)
            return now, now
        old = self.old
        self._note(condition, old, new)
        return old is not None and self._holds(condition, old), now

    def _note(self, condition: Condition, *rows: Row | None) -> None:
        """Whoever compares these columns sees the change itself where all of these rows are, and nothing where none."""
        known = [row for row in rows if row is not None]
        if known and all(condition.columns <= row.keys() for row in known):
            self._columns, self._rows = condition.columns, known

    def _untouched(self, condition: Condition) -> bool:
        """Whether an update changed nothing that is compared; the row before need not be put together then."""
        return self.event.type == "update" and not self.event.truncated and condition.columns.isdisjoint(self.replaced)

    def _holds(self, condition: Condition, row: Row) -> bool:
        try:
            if condition.columns <= row.keys():
                return condition.holds(row)
            impossible = _excluded(condition, row)
        except Exception as error:  # a bug of ours; the row's text is nobody's business, so no traceback with values
            self._counts["unjudged"] += 1
            log.error("event %s could not be judged: %s", self.event.id, type(error).__name__)
            raise _Unjudged("schema") from None
        if impossible:
            return False
        raise _Unjudged("overflow" if self.event.truncated or not row else "schema")

    # --- The row, decoded here and not by the event, which may be kept for long: texts take a tenth of the memory.

    @cached_property
    def new(self) -> Row | None:
        """The row as it is now; of a row over the size cap what is known of it. None: it is gone."""
        event = self.event
        if event.type == "delete":
            return None
        return {**_decoded(event.pk_json), **_decoded(event.row_json)} if event.truncated else _decoded(event.row_json)

    @cached_property
    def replaced(self) -> Row:
        """The old values of an update's changed columns; the whole old row of a delete."""
        return _decoded(self.event.old_json)

    @cached_property
    def old(self) -> Row | None:
        """The row as it was; None: there was none."""
        event = self.event
        if event.type == "insert":
            return None
        if event.truncated:
            kept = {name: value for name, value in (self.new or {}).items() if name not in event.changed}
            return {**kept, **self.replaced, **_decoded(event.old_pk_json or event.pk_json)}
        return self.replaced if event.type == "delete" else {**_decoded(event.row_json), **self.replaced}

    # --- What an update becomes.

    @cached_property
    def _entered(self) -> ChangeEvent:
        if self.event.type == "insert":
            return self.event
        return self.event.replace(type="insert", old_json=None, old_pk_json=None, changed_json="[]")

    @cached_property
    def _left(self) -> ChangeEvent:
        event = self.event
        if event.type == "delete":
            return event
        pk = event.old_pk_json or event.pk_json
        # Without a key, only the row that the client has says which one it is.
        old = None if decode(pk) else event.old_json
        return event.replace(
            type="delete", pk_json=pk, row_json=None, old_json=old, old_pk_json=None, changed_json="[]"
        )


def _excluded(condition: Condition, row: Row) -> bool:
    """Whether what is known of a row says already that it is none of these: another owner's, however large."""
    known = [column for column in condition.predicate.reads if column.name in row]
    wanted = condition.equalities
    return any(index_key(c, row[c.name]) not in wanted[c.name] for c in known if c.name in wanted)


def _decoded(text: str | None) -> dict[str, Any]:
    """Nothing is known of a row that Python cannot read: PostgreSQL takes JSON that is nested more deeply."""
    try:
        return {} if text is None else decode(text)
    except (ValueError, RecursionError):
        return {}
