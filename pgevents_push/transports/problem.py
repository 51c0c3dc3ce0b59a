"""Refusals as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json

from flask import Response

from pgevents_push.errors import RequestError


def problem(error: RequestError) -> Response:
    """Return the answer to a request that failed by the caller's fault."""
    body = {"type": "about:blank", "title": error.title, "status": error.status, "detail": str(error)}
    response = Response(json.dumps(body), error.status, mimetype="application/problem+json")
    response.headers["Cache-Control"] = "no-store"
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response
