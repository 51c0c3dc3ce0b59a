"""Flask-SocketIO: an emit to all. For gevent-websocket's worker of gunicorn, as its manual has it."""

from __future__ import annotations

from flask import Flask, request
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent", cors_allowed_origins="*")


@socketio.on("connect")  # type: ignore[untyped-decorator]
def connect() -> None:
    socketio.emit("ready", to=request.sid)  # type: ignore[attr-defined]


@app.post("/publish")
def publish() -> str:
    socketio.send(request.get_data(as_text=True))
    return ""
