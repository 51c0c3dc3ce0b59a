"""Stay: how one open mailbox is doing, for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pgevents_push.hub.subscription import Mailbox
from pgevents_push.hub.view import View


@dataclass(frozen=True)
class Stay:
    """What it sees, since how many seconds, and how many bytes wait in it."""

    views: tuple[View, ...]
    seconds: float
    queued_bytes: int


def stays(mailboxes: Mapping[Mailbox, Iterable[View]]) -> list[Stay]:
    """How mailboxes that see so much are doing."""
    now = time.monotonic()
    return [Stay(tuple(views), now - box.opened_at, box.queued_bytes) for box, views in mailboxes.items()]
