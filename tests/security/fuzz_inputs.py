"""Hostile inputs by chance: things that are nearly right, bent in one or several places; a seed gives the same ones."""

from __future__ import annotations

import json
import random
import struct
from typing import Any
from urllib.parse import quote, quote_from_bytes

from pgevents_push.transports.ticket import Tickets
from tests.fixtures.ws_client import client_frame

CURSOR = "4f0c3d5e9a10~760:760:"
SPECIAL = [
    "", " ", "\0", "\n", "\r\n", "\t", "'", '"', "\\", "%", "%s", "%00", "{", "}", "(", ")", "[", "]", "*", ",", ".",
    ":", ";", "~", "-", "_", "=", "&", "?", "#", "/", "\u00e9", "\u2028", "\u202e", "\ufeff", "\U0001f600", "\ud800",
    "\x7f", "\x1b[2J", "0", "-1", "9" * 30, "1e999", "NaN", "null", "true", "../../etc/passwd", "<script>",
    "' OR 1=1 --", "1970-01-01",
]  # fmt: skip
LONG = ["x" * 3000, "(" * 2000, "." * 2000, ",a" * 1000, '"' * 2000, "t1.a," * 700]
FILTERS = [
    "id=eq.1", "title=eq.open", "id=in.(1,2,3)", "title=like.a*b", "title=ilike.*x*", "id=is.null", "id=not.eq.5",
    "and=(id.gt.5,title.eq.a)", "or=(id.lt.1,and(id.gt.2,not.title.is.null))", "docs.id=gte.7", "secret=eq.x",
    'title=in.("a,b","c""d")', "id=eq.", "id=zz.1", "id", "=", "not.and=(id.eq.1)", "title=eq.\u00e9",
]  # fmt: skip
NAMES = [
    "table", "events", "columns", "format", "filter", "and", "or", "snapshot", "limit", "ticket", "lastEventId",
    "last_event_id", "_", "tabel", "not.and",
]  # fmt: skip
VALUES: dict[str, list[str]] = {
    "table": ["docs", "public.docs", '"public"."docs"', "docs,orders", "nosuch", "pgevents.log", "a.b.c"],
    "events": ["insert", "insert,update", "all", "INSERT"],
    "columns": ["id", "id,title", "docs.id", "secret", "nosuch"],
    "format": ["json", "message", "html", "turbo", "xml"],
    "filter": FILTERS,
    "lastEventId": [CURSOR, "4f0c3d5e9a10~1:5:2,3~1:6:~4", "a~1:1:", f"{CURSOR}~{CURSOR}"],
    "ticket": ["x", "a.b.c", "WyJhbm4iXQ.Zxxxxx.yyyy"],
    "snapshot": ["1", "1", "0", "true"],
    "limit": ["1", "2", "100", "999999999", "0", "-1", "1.5", "many"],
}
# As the app of the storm signs them, and the parsers' own.
KEY, PURPOSE = "k", "pgevents_push.ticket.PGEVENTS"
HEADERS = [
    "Last-Event-ID", "Accept", "Origin", "Cookie", "X-User", "Host", "User-Agent", "Sec-Fetch-Site", "Sec-Fetch-Mode",
    "Access-Control-Request-Method", "Access-Control-Request-Headers", "Authorization", "X-Forwarded-For", "Upgrade",
    "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Connection",
    "Content-Length", "Transfer-Encoding", "Accept-Encoding", "Range", "If-None-Match", "Cache-Control", "Referer",
]  # fmt: skip
PATHS = [
    "/pgevents/stream", "/pgevents/snapshot", "/pgevents/ws", "/pgevents/health", "/pgevents/metrics", "/pgevents/",
    "/pgevents/static/pgevents.js", "/pgevents/static/../../app.py", "/pgevents/nosuch",
]  # fmt: skip
ORDINARY = ["x", CURSOR, "null", "*/*", "text/event-stream", "websocket", "0", "13", "http://127.0.0.1", "ann"]


class Inputs:
    """:param seed: two with the same give the same, in the same order of calls; but for tickets, which have a date."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._tickets = Tickets([KEY], PURPOSE, "public", 32)

    def bent(self, text: str) -> str:
        """Return a text with some places changed; often none, sometimes many."""
        for _ in range(self.chance.choice((0, 0, 1, 1, 2, 3, 8))):
            at = self.chance.randint(0, len(text))
            end = min(len(text), at + self.chance.choice((0, 0, 1, 1, 3)))
            specials = LONG if self.chance.random() < 0.02 else SPECIAL
            text = text[:at] + self.chance.choice((*specials, text[: self.chance.randint(0, 20)])) + text[end:]
        return text

    def bent_bytes(self, data: bytes) -> bytes:
        for _ in range(self.chance.choice((0, 1, 1, 2, 5))):
            at = self.chance.randint(0, len(data))
            end = min(len(data), at + self.chance.choice((0, 1, 1, 4)))
            data = data[:at] + self.chance.randbytes(self.chance.choice((0, 1, 1, 2, 9))) + data[end:]
        return data

    def ticket(self) -> str:
        """Return one that is good, or was before something in it was changed."""
        return self.bent(self._tickets.issue("ann", {"table": ["docs"]}))

    def value(self, name: str) -> str:
        if name == "ticket" and self.chance.random() < 0.7:
            return self.ticket()
        return self.bent(self.chance.choice(VALUES.get(name, FILTERS)))

    def query(self) -> dict[str, list[str]]:
        """Parameters as Flask gives them."""
        names = [self.bent(self.chance.choice(NAMES)) for _ in range(self.chance.choice((0, 1, 1, 2, 3, 6)))]
        found = {name: [self.value(name) for _ in range(self.chance.choice((1, 1, 2)))] for name in names}
        return {"table": ["docs"], **found} if self.chance.random() < 0.7 else found

    def query_text(self) -> str:
        """The same as they stand in a URL, now and then not as they should."""
        pairs = [(name, value) for name, values in self.query().items() for value in values]
        text = "&".join(f"{_percent(name)}={_percent(value)}" for name, value in pairs)
        return text if self.chance.random() < 0.9 else text + self.chance.choice(("%", "%zz", "&&&=", "%ff%fe", ";x=1"))

    def request(self, port: int) -> bytes:
        """A whole request, of which the server may think what it likes."""
        method = self.chance.choice(("GET",) * 8 + ("HEAD", "OPTIONS", "POST", "DELETE", "get", "PRI"))
        path = self.chance.choice(PATHS[:2] if self.chance.random() < 0.7 else PATHS)
        lines = [f"{method} {path}?{self.query_text()} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        for name in self.chance.sample(HEADERS, self.chance.choice((0, 1, 2, 4))):
            lines.append(
                f"{name}: {self.bent(self.chance.choice(('x', CURSOR, 'null', '*/*', 'websocket', '0', '13')))}"
            )
        data = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\nConnection: close\r\n\r\n"
        return self.bent_bytes(data) if self.chance.random() < 0.15 else data

    def message(self) -> str:
        """What a client says over a WebSocket."""
        fields: dict[str, Any] = {"type": self.chance.choice(("subscribe", "subscribe", "unsubscribe", "ping", "x"))}
        fields["ref"] = self.chance.choice(("1", "2", "x" * 65, 7, None, self.bent("ref")))
        for name in self.chance.sample(("events", "columns", "filter", "snapshot", "limit", "since", "other"), 3):
            fields[name] = self.any_value(name)
        fields["table"] = "docs" if self.chance.random() < 0.6 else self.any_value("table")
        if self.chance.random() < 0.3:
            fields |= {"snapshot": True, "limit": self.chance.choice((None, 1, 7, "3", 0, -1, 1e9, True, [1]))}
        text = json.dumps(fields)
        return self.bent(text) if self.chance.random() < 0.3 else text

    def any_value(self, name: str) -> Any:
        text = self.value({"since": "lastEventId"}.get(name, name))
        deep: Any = text
        for _ in range(self.chance.choice((0, 0, 0, 1, 50))):
            deep = [deep] if self.chance.random() < 0.5 else {text[:5]: deep}
        others: tuple[Any, ...] = (text, [text], deep, None, True, 0, -1, 2**70, 0.5, [], {}, ["insert"], ["id"])
        return self.chance.choice(others)

    def frame(self) -> bytes:
        """A frame, or what looks like one."""
        payload = self.message().encode("utf-8", "surrogatepass")
        first = self.chance.choice((0x81, 0x81, 0x81, 0x01, 0x80, 0x00, 0x82, 0x88, 0x89, 0x8A, 0xC1, 0x83, 0x8F))
        if first & 0x08:
            payload = self.chance.choice(
                (b"", struct.pack("!H", self.chance.randint(0, 5000)) + payload[:100], payload[:130])
            )
        data = client_frame(first, payload)
        return self.bent_bytes(data) if self.chance.random() < 0.3 else data


def _percent(text: str) -> str:
    try:
        return quote(text, safe="().,*:~")
    except UnicodeEncodeError:
        return quote_from_bytes(text.encode("utf-8", "surrogatepass"), safe="().,*:~")
