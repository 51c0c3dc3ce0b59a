"""The ear: hears the doorbell, reads the log, hands on whole transactions. Knows no subscriber."""

from pgevents_push.listener.connection import Connection, Heard, has_wait_callback, libpq_parameters
from pgevents_push.listener.doorbell import Doorbell
from pgevents_push.listener.listener import Ears, Listener
from pgevents_push.listener.pulse import Pulse, Status
from pgevents_push.listener.reader import Batch, read_between, read_position, read_since
from pgevents_push.listener.retention import Pruned, Pruner, is_kept, prune

__all__ = [
    "Batch",
    "Connection",
    "Doorbell",
    "Ears",
    "Heard",
    "Listener",
    "Pruned",
    "Pruner",
    "Pulse",
    "Status",
    "has_wait_callback",
    "is_kept",
    "libpq_parameters",
    "prune",
    "read_between",
    "read_position",
    "read_since",
]
