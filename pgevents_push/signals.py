"""Blinker signals of what happens inside; the sender is the Flask app.

`handler_failed`: a handler raised. Sent with `event`, `handler` (its name) and `error`.
`handler_overflowed`: a handler was so slow that it missed `event`. Sent with `event` and `handler`.
`listener_changed`: the listener's `status` changed. Sent with `status` and `error` (text or None).
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

handler_failed = _signals.signal("pgevents-handler-failed")
handler_overflowed = _signals.signal("pgevents-handler-overflowed")
listener_changed = _signals.signal("pgevents-listener-changed")
