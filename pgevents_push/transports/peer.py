"""The socket of a request, where the server gives it away. No standard says where: each server has its own place."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import Any

# werkzeug's server and gunicorn's workers; gunicorn's gevent_pywsgi worker uses the third.
_KEYS = ("werkzeug.socket", "gunicorn.socket", "gunicorn.sock")


def socket_of(environ: Mapping[str, Any]) -> Any:
    """Return the connection's socket, or None where it is not known."""
    for key in _KEYS:
        if environ.get(key) is not None:
            return environ[key]
    if str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent/"):
        # gevent.pywsgi has no key: its input reads from the socket's file, or is that file.
        source = environ.get("wsgi.input")
        reader = getattr(source, "rfile", source)
        return getattr(getattr(reader, "raw", None), "_sock", None)
    return None


# Longer than a phone in a tunnel: who has read nothing for this long is not coming back to this connection.
STUCK_SECONDS = 60.0


def give_up_when_stuck(sock: Any) -> None:
    """Let the kernel (Linux) end a connection whose peer is there but takes nothing. The thread or greenlet that
    sends would otherwise wait in the server's own send, where no mailbox's end can reach it, for ever."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STUCK_SECONDS * 1000))
        except OSError:
            pass  # the client has left already


def reset_at_close(sock: Any) -> None:
    """Let the close of a socket free what the kernel still holds for its peer. Without it one that reads nothing keeps
    its send buffer, and one in mid-flood waits a minute for room that never comes. Closed: does nothing."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
