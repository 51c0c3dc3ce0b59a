"""Any write to PostgreSQL, by any program, reaches Flask handlers and browsers: live, complete, in order."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ChangeEvent",
    "PGEvents",
    "events",
    "expose",
    "fragment",
    "on_change",
    "on_delete",
    "on_insert",
    "on_truncate",
    "on_update",
    "pgevents_bp",
]

if TYPE_CHECKING:
    from flask import Blueprint

    from pgevents_push.blueprint import PGEvents, events
    from pgevents_push.event import ChangeEvent

    # The default instance; see PGEvents for what each of these does.
    pgevents_bp: Blueprint = events.blueprint
    on_insert = events.on_insert
    on_update = events.on_update
    on_delete = events.on_delete
    on_truncate = events.on_truncate
    on_change = events.on_change
    expose = events.expose
    fragment = events.fragment

else:

    def __getattr__(name: str) -> Any:
        """Import what is asked for, when it is first asked for: gunicorn's master reads `gunicorn_conf` of this
        package, and must not load SQLAlchemy and Flask before a worker's gevent has patched what they use."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from pgevents_push import blueprint, event

        homes = {"ChangeEvent": event, "PGEvents": blueprint, "events": blueprint}
        if name in homes:
            value = getattr(homes[name], name)
        else:
            value = getattr(blueprint.events, "blueprint" if name == "pgevents_bp" else name)
        globals()[name] = value
        return value
