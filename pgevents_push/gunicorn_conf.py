"""gunicorn's settings for streams: `gunicorn -c python:pgevents_push.gunicorn_conf app:app`.

To have settings of your own besides, begin your gunicorn.conf.py with

    from pgevents_push.gunicorn_conf import *

and write them below. Options of the command line win over both. Nothing else is imported here: this is read in
gunicorn's master, before a worker's gevent has patched anything.
"""

import os
import resource

__all__ = ["control_socket_disable", "graceful_timeout", "worker_class", "worker_connections", "workers"]


def _cores() -> int:
    """The cores that this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _connections() -> int:
    """As many as this process may have files open, but for 100 that other things need; 10,000 at most."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, min(10_000, allowed - 100)) if allowed != resource.RLIM_INFINITY else 10_000


worker_class = "gevent"
# One for each core: a worker waits for nothing, so more of them only cost memory and connections to PostgreSQL.
workers = int(os.environ.get("WEB_CONCURRENCY") or _cores())
# An open stream counts for as long as it is open. At gunicorn's default of 1,000 a worker takes no other request.
worker_connections = _connections()
# Streams end within a second when a worker stops; so long an ordinary request may take to finish.
graceful_timeout = 30
# Since version 25 gunicorn opens a socket to be controlled by, with one path for all gunicorns of a user.
control_socket_disable = True
