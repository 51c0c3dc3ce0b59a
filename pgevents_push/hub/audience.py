"""Audience: all who see something of one table, in groups that see the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pgevents_push.event import Shape
from pgevents_push.hub.group import Group
from pgevents_push.hub.index import Index
from pgevents_push.hub.sight import Sight
from pgevents_push.hub.subscription import Mailbox
from pgevents_push.hub.view import View


class Audience:
    """The groups of one table. False when there is none."""

    def __init__(self) -> None:
        self._groups: dict[View, Group] = {}
        self._index = Index()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def join(self, view: View, subscription: Mailbox) -> None:
        """Add a mailbox to the group of its view. There already: does nothing."""
        group = self._groups.get(view)
        if group is None:
            group = self._groups[view] = Group(view)
            self._index.add(group)
        group.members[subscription] = None

    def leave(self, view: View, subscription: Mailbox) -> None:
        """Take a mailbox out of the group of its view, which ends with its last member."""
        group = self._groups[view]
        del group.members[subscription]
        if not group.members:
            del self._groups[view]
            self._index.remove(group)

    def concerned(self, sight: Sight) -> Iterable[Group]:
        """Return the groups that a change may concern. What is about the table concerns all who see it."""
        return self._groups.values() if sight.of_no_row else self._index.concerned(sight)

    def outdated(self, shape: Shape) -> Iterator[Mailbox]:
        """Yield the mailboxes of views that were made for other columns than these."""
        for view, group in self._groups.items():
            if view.mark is not None and not view.mark.fits(shape):
                yield from group.members
