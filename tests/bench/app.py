"""The app that is measured: tables that everybody sees, two with rights of each client, and an ordinary page beside.

The header X-Client is the number of a client. Each sees its own row of `owned`, and those of `shared` that are for as
many clients; no two of them have the same rights.

The settings come from APP_SETTINGS, as JSON, and the listener's status goes to HANDLER_LOG: see
tests/fixtures/app.py.
"""

from __future__ import annotations

import json
import os
from typing import Any

from flask import Flask, Response, request
from flask_sqlalchemy import SQLAlchemy

from pgevents_push import expose, pgevents_bp
from pgevents_push.signals import listener_changed
from pgevents_push.transports.rights import SubscriptionRequest

TABLES = ("ticks", "others")

app = Flask(__name__)
app.config.update(json.loads(os.environ["APP_SETTINGS"]))
SQLAlchemy(app)
_log = os.open(os.environ["HANDLER_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _is_owner(asked: SubscriptionRequest) -> Any:
    return asked.c.owner_id == int(request.headers["X-Client"])


def _is_among(asked: SubscriptionRequest) -> Any:
    return asked.c.audience > int(request.headers["X-Client"])


for _table in TABLES:
    expose(_table, columns="*", public=True)
expose("owned", columns="*", authorize=_is_owner)
expose("shared", columns="*", authorize=_is_among)


@listener_changed.connect
def _changed(sender: Flask, status: str, error: str | None) -> None:
    os.write(_log, (json.dumps({"pid": os.getpid(), "status": status, "error": error}) + "\n").encode())


@app.get("/page")
def page() -> str:
    """An ordinary request."""
    return "hello"


@app.after_request
def _name_process(response: Response) -> Response:
    response.headers["X-Process"] = str(os.getpid())
    return response


app.register_blueprint(pgevents_bp)
