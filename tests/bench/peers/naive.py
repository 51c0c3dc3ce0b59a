"""What is written first: a queue for each client, a generator that waits for it. For gunicorn's gevent worker."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue

from flask import Flask, Response, request

app = Flask(__name__)
queues: set[Queue[str]] = set()


@app.get("/stream")
def stream() -> Response:
    def events() -> Iterator[str]:
        queue: Queue[str] = Queue()
        queues.add(queue)
        try:
            yield "event: ready\ndata: {}\n\n"
            while True:
                yield f"data: {queue.get()}\n\n"
        finally:
            queues.discard(queue)

    return Response(events(), mimetype="text/event-stream")


@app.post("/publish")
def publish() -> str:
    text = request.get_data(as_text=True)
    for queue in queues:
        queue.put(text)
    return ""
