"""Any write to PostgreSQL, by any program, reaches Flask handlers and browsers: live, complete, in order."""

from pgevents_push.blueprint import PGEvents, events
from pgevents_push.event import ChangeEvent

__version__ = "0.1.0"

# The default instance; see PGEvents for what each of these does.
pgevents_bp = events.blueprint
on_insert = events.on_insert
on_update = events.on_update
on_delete = events.on_delete
on_truncate = events.on_truncate
on_change = events.on_change
expose = events.expose

__all__ = [
    "ChangeEvent",
    "PGEvents",
    "events",
    "expose",
    "on_change",
    "on_delete",
    "on_insert",
    "on_truncate",
    "on_update",
    "pgevents_bp",
]
