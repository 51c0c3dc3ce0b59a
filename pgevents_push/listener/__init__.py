"""The ear: hears the doorbell, reads the log, hands on whole transactions. Knows no subscriber."""

from pgevents_push.listener.connection import Connection, has_wait_callback
from pgevents_push.listener.doorbell import Doorbell
from pgevents_push.listener.listener import Ears, Listener
from pgevents_push.listener.pulse import Pulse, Status
from pgevents_push.listener.reader import Batch, read_between, read_position, read_since

__all__ = [
    "Batch",
    "Connection",
    "Doorbell",
    "Ears",
    "Listener",
    "Pulse",
    "Status",
    "has_wait_callback",
    "read_between",
    "read_position",
    "read_since",
]
