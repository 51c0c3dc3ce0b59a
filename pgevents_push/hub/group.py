"""Group: the mailboxes that see a table through the same view."""

from __future__ import annotations

from pgevents_push.hub.subscription import Mailbox
from pgevents_push.hub.view import View


class Group:
    """A view and its members. Known by identity, so that finding it costs no comparing of conditions."""

    __slots__ = ("members", "view")

    def __init__(self, view: View) -> None:
        self.view = view
        self.members: dict[Mailbox, None] = {}
