"""Blinker signals of what happens inside; the sender is the Flask app.

`handler_failed`: a handler raised. Sent with `event`, `handler` (its name) and `error`.
`handler_overflowed`: a handler was so slow that it missed `event`. Sent with `event` and `handler`.
`listener_changed`: the listener's `status` changed. Sent with `status` and `error` (text or None).
"""

from __future__ import annotations

import logging
from typing import Any

from blinker import Namespace, Signal

log = logging.getLogger(__name__)

_signals = Namespace()

handler_failed = _signals.signal("pgevents-handler-failed")
handler_overflowed = _signals.signal("pgevents-handler-overflowed")
listener_changed = _signals.signal("pgevents-listener-changed")


def tell(signal: Signal, app: object, **values: Any) -> None:
    """Send a signal. A receiver that fails is logged: it must not end the listener, or a handler's turn."""
    try:
        signal.send(app, **values)
    except Exception:
        log.exception("a receiver of %s failed", getattr(signal, "name", signal))
