"""The socket of a request, where the server gives it away. No standard says where: each server has its own place."""

from __future__ import annotations

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
