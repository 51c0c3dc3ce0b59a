"""Pending: a frame whose place in the mailboxes is taken, but of which PostgreSQL has yet to say what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pgevents_push.event import GapReason
from pgevents_push.hub.persona import Persona
from pgevents_push.hub.sight import Sight
from pgevents_push.hub.view import View


class Pending:
    """What a change is to a view whose rows depend on a persona. `judge` it, or `give_up`: then it is ready, and those
    in whose mailboxes it lies are told.

    Its place keeps the order: what comes later is not taken from a mailbox before this is ready.
    """

    def __init__(self, sight: Sight, view: View, persona: Persona) -> None:
        self.sight, self.view, self.persona = sight, view, persona
        self.is_ready = False
        self.frame: bytes | None = None
        self._watchers: list[Callable[[], None]] = []

    @property
    def size(self) -> int:
        """About how many bytes it will be."""
        event = self.sight.event
        return 200 + len(event.row_json or "") + len(event.old_json or "")

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call back once it is ready."""
        self._watchers.append(watcher)

    def judge(self, before: bool, now: bool) -> None:
        """The persona could see the row before the change, and can see it now."""
        self._settle(self.sight.frame(self.view, (before, now)))

    def give_up(self, reason: GapReason) -> None:
        """Nobody can tell."""
        self._settle(self.sight.gap(self.view, reason))

    def _settle(self, frame: bytes | None) -> None:
        self.frame, self.is_ready = frame, True
        for watcher in self._watchers:
            watcher()


class Judge(Protocol):
    """Who says as whom a row may be seen."""

    def put(self, pending: Sequence[Pending]) -> None:
        """Judge these soon, in order; must not wait."""
        ...

    def answer(self, pending: Sequence[Pending]) -> None:
        """Judge these now.

        :raises ConnectionLost: that cannot be done now.
        """
        ...


class Nobody:
    """Judges nothing: whatever needs a judge is a gap."""

    def put(self, pending: Sequence[Pending]) -> None:
        for one in pending:
            one.give_up("schema")

    answer = put


NOBODY = Nobody()


def look(sight: Sight, view: View) -> bytes | Pending | None:
    """Return what a view shows of a change, as far as that can be told at once."""
    if view.persona is None or sight.of_no_row:
        return sight.frame(view)
    return Pending(sight, view, view.persona) if sight.may_concern(view) else None
