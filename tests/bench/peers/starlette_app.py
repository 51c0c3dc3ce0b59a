"""sse-starlette on uvicorn: a queue for each client, as its manual has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

queues: set[asyncio.Queue[str]] = set()


async def stream(request: Request) -> EventSourceResponse:
    async def events() -> AsyncIterator[ServerSentEvent]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        queues.add(queue)
        try:
            yield ServerSentEvent(event="ready", data="{}")
            while True:
                yield ServerSentEvent(data=await queue.get())
        finally:
            queues.discard(queue)

    return EventSourceResponse(events())


async def publish(request: Request) -> Response:
    text = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(text)
    return Response()


app = Starlette(routes=[Route("/stream", stream), Route("/publish", publish, methods=["POST"])])
