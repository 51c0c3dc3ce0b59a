"""Stream: opens a stream as a browser would, through whatever proxy is in front, and measures when bytes arrive."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pgevents_push.doctor.finding import Finding

FIRST_SECONDS = 2.0
CONNECT_SECONDS = 10.0
# What a loaded server and a slow network may add to a heartbeat.
SLACK_SECONDS = 5.0

BUFFERING = (
    "Switch buffering off there; nginx: proxy_buffering off; proxy_http_version 1.1; and no gzip for text/event-stream."
)

WORKER = "gunicorn -c python:pgevents_push.gunicorn_conf, or -k gevent, or -k gthread --threads 100."


@dataclass(frozen=True)
class StreamFacts:
    """What came. `first`: seconds until the first bytes, None when none came in FIRST_SECONDS; `second` the same
    for what the heartbeat sent, with `heartbeat` the seconds that it should take; `error` when there was no stream;
    `one_at_a_time`: the process that answers says so of its server."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    first: float | None = None
    heartbeat: float = 0.0
    second: float | None = None
    error: str | None = None
    one_at_a_time: bool = False


def ask_stream(url: str, heartbeat: float, headers: Mapping[str, str]) -> StreamFacts:
    """Open it, and wait for the first bytes and for the heartbeat.

    :param heartbeat: seconds that the server is believed to have; what its `ready` says wins.
    :param headers: more of them, a Cookie for example.
    """
    parts = urlsplit(url)
    kinds: dict[str, Any] = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        return StreamFacts(error="it is no http:// or https:// URL")
    try:
        one_at_a_time = _ask_health(
            kinds[parts.scheme](parts.hostname, parts.port, timeout=CONNECT_SECONDS), parts.path
        )
        connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=CONNECT_SECONDS)
        try:
            found = _measure(connection, f"{parts.path or '/'}?{parts.query}", heartbeat, headers)
            return replace(found, one_at_a_time=one_at_a_time)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return StreamFacts(error=str(error) or type(error).__name__)


def _ask_health(connection: Any, path: str) -> bool:
    """Ask the route beside the stream; before it, which would keep such a server busy."""
    try:
        connection.request("GET", path.removesuffix("stream") + "health")
        found = json.loads(connection.getresponse().read(10_000))
        return isinstance(found, dict) and bool(found.get("one_at_a_time"))
    except (OSError, ValueError, http.client.HTTPException):
        return False  # somebody else's page, or none: the stream will tell
    finally:
        connection.close()


def _measure(connection: Any, path: str, heartbeat: float, headers: Mapping[str, str]) -> StreamFacts:
    connection.connect()
    sock = connection.sock
    sock.settimeout(FIRST_SECONDS)
    began = time.monotonic()
    # As a browser asks: a proxy that compresses event streams does it only then.
    asked = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate, br", **headers}
    connection.request("GET", path, headers=asked)
    try:
        response = connection.getresponse()
        with response:
            got = {name.lower(): value for name, value in response.getheaders()}
            known = StreamFacts(response.status, got)
            if response.status != 200:
                return known
            text = response.read1(65536)
            first = time.monotonic() - began
            return _wait_for_heartbeat(sock, response, text, StreamFacts(response.status, got, first, heartbeat))
    except TimeoutError:
        return StreamFacts(200)


def _wait_for_heartbeat(sock: Any, response: Any, text: bytes, facts: StreamFacts) -> StreamFacts:
    """Read on; whatever comes after `ready` proves that the proxy passes on what it gets."""
    began, heartbeat, ready = time.monotonic(), facts.heartbeat, _heartbeat_of(text)
    try:
        while ready is None or not _after_ready(text):
            if ready is not None:
                heartbeat = ready
            left = began + heartbeat + SLACK_SECONDS - time.monotonic()
            sock.settimeout(max(0.01, left))
            chunk = response.read1(65536)
            if left <= 0 or not chunk:
                return StreamFacts(facts.status, facts.headers, facts.first, heartbeat)
            text += chunk
            ready = _heartbeat_of(text)
    except TimeoutError:
        return StreamFacts(facts.status, facts.headers, facts.first, heartbeat)
    return StreamFacts(facts.status, facts.headers, facts.first, ready, time.monotonic() - began)


_READY = re.compile(rb"^event: ready\ndata: (.*)\n\n", re.MULTILINE)


def _heartbeat_of(text: bytes) -> float | None:
    found = _READY.search(text)
    return None if found is None else float(json.loads(found.group(1))["heartbeat"])


def _after_ready(text: bytes) -> bool:
    found = _READY.search(text)
    return found is not None and len(text) > found.end()


def judge_stream(facts: StreamFacts) -> Iterator[Finding]:
    """What the measurements mean; pure."""
    if facts.error is not None:
        yield Finding("error", f"The URL could not be opened: {facts.error}.", "Is the server up, and the URL right?")
    elif facts.status != 200:
        yield _refused(facts.status)
    elif facts.first is None:
        what = f"No byte of the stream came within {FIRST_SECONDS:g} s: a proxy holds it back."
        yield Finding("error", what, BUFFERING)
    elif not facts.headers.get("content-type", "").startswith("text/event-stream"):
        what = f"The answer is {facts.headers.get('content-type', 'of no type')}, no event stream."
        yield Finding("error", what, "Give the URL of the stream: https://…/pgevents/stream?table=…")
    elif "content-encoding" in facts.headers:
        what = f"A proxy compresses the stream ({facts.headers['content-encoding']}), which holds events back."
        yield Finding("error", what, BUFFERING)
    else:
        yield Finding("ok", f"The first bytes of the stream came after {facts.first * 1000:.0f} ms.")
        yield _heartbeat(facts)
    if facts.one_at_a_time:
        yield Finding("error", "The server takes one request at a time: an open stream blocks a whole process.", WORKER)


def _refused(status: int) -> Finding:
    if status in (401, 403):
        return Finding("note", f"The stream answers {status}: not without a session.", "Give --header 'Cookie: …'.")
    if status in (301, 302, 303, 307, 308):
        return Finding("error", f"The URL redirects ({status}).", "Give the address where it leads, or a session.")
    cure = {
        404: "Is the table exposed, and the path right?",
        502: "The proxy does not reach the app.",
        503: "The process cannot hold a stream open: the answer's body and its log say why.",
    }
    return Finding("error", f"The stream answers {status}.", cure.get(status, "The answer's body says why."))


def _heartbeat(facts: StreamFacts) -> Finding:
    if facts.second is None:
        what = f"Nothing more came within a heartbeat of {facts.heartbeat:g} s: a proxy holds events back or cuts."
        return Finding("error", what, BUFFERING)
    if "no-transform" not in facts.headers.get("cache-control", ""):
        what = "A proxy changed the Cache-Control header: others behind it may compress or keep the stream."
        return Finding("warning", what, "Let it pass the headers of the stream as they are.")
    return Finding("ok", f"The stream went on after {facts.second:.1f} s, within its heartbeat.")
