"""The ear: hears the doorbell, reads the log, hands on whole transactions. Knows no subscriber."""

from pgevents_push.listener.batch import Batch
from pgevents_push.listener.connection import Connection, Heard, Rows, has_wait_callback, libpq_parameters
from pgevents_push.listener.doorbell import Doorbell
from pgevents_push.listener.listener import Ears, Listener
from pgevents_push.listener.pulse import Pulse, Status
from pgevents_push.listener.reader import read_position, read_since
from pgevents_push.listener.reading import Reading
from pgevents_push.listener.retention import Pruned, Pruner, is_kept, prune
from pgevents_push.listener.rows import Place, RowsWanted, find_table, is_in_the_way, read_rows, see_as_captured
from pgevents_push.listener.shapes import read_shape, read_xmax, with_shapes

__all__ = [
    "Batch",
    "Connection",
    "Doorbell",
    "Ears",
    "Heard",
    "Listener",
    "Place",
    "Pruned",
    "Pruner",
    "Pulse",
    "Reading",
    "Rows",
    "RowsWanted",
    "Status",
    "find_table",
    "has_wait_callback",
    "is_in_the_way",
    "is_kept",
    "libpq_parameters",
    "prune",
    "read_position",
    "read_rows",
    "read_shape",
    "read_since",
    "read_xmax",
    "see_as_captured",
    "with_shapes",
]
