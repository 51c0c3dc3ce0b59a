"""django-eventstream: its view, and one that sends an event. For uvicorn."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django_eventstream import send_event
from django_eventstream.views import events


def stream(request: HttpRequest) -> HttpResponseBase:
    response: HttpResponseBase = events(request, channels=["ticks"])
    response["X-Clients-Look-For"] = "ready"  # its own first event has another name
    return response


async def publish(request: HttpRequest) -> HttpResponse:
    send_event("ticks", "message", request.body.decode(), json_encode=False)
    return HttpResponse()


urlpatterns = [path("stream", stream), path("publish", publish)]
