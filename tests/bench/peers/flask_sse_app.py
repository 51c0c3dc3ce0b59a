"""Flask-SSE, which takes events from Redis: one subscription to it for each client. For gunicorn's gevent worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

from flask import Flask, Response, request, stream_with_context
from flask_sse import sse

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["REDIS_URL"]


@app.get("/stream")
def stream() -> Response:
    def events() -> Iterator[str]:
        messages = sse.messages(channel="ticks")
        yield "event: ready\ndata: {}\n\n"
        for message in messages:
            yield str(message)

    return Response(stream_with_context(events()), mimetype="text/event-stream")


@app.post("/publish")
def publish() -> str:
    sse.publish(request.get_data(as_text=True), channel="ticks")
    return ""
