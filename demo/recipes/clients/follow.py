"""`python follow.py http://127.0.0.1:5000`: prints changes of orders, from Python with nothing but its library.

It comes back when the connection ends, and goes on where it was."""

from __future__ import annotations

import http.client
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

SILENCE_SECONDS = 45  # three heartbeats
CHANGES = ("insert", "update", "delete", "truncate")


def follow(address: str) -> Iterator[dict[str, Any]]:
    """Yield the changes, for ever. A gap, after which something may be missing, comes as {"type": "gap"}."""
    position, attempt = "", 0
    while True:
        try:
            for name, data, cursor in frames(address, position):
                position = cursor
                attempt = 0 if name == "ready" else attempt
                if name in CHANGES:
                    yield json.loads(data)
                elif name == "gap":
                    yield {"type": "gap", **json.loads(data)}
        except (OSError, http.client.HTTPException) as error:
            print(f"{error!r}, trying again", file=sys.stderr)
        time.sleep(min(30, 2**attempt) * random.uniform(0.5, 1))
        attempt += 1


def frames(address: str, cursor: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, data and id of each frame of one stream."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=SILENCE_SECONDS)
    try:
        headers = {"Last-Event-ID": cursor} if cursor else {}
        connection.request("GET", "/pgevents/stream?table=orders", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"{answer.status} {answer.read(1000)!r}")
        fields: dict[str, str] = {}
        while line := answer.readline().decode():
            key, _, value = line.rstrip("\n").partition(": ")
            if key:
                fields[key] = value
            elif "data" in fields:
                cursor = fields.get("id", cursor)
                yield fields["event"], fields["data"], cursor
                fields = {}
    finally:
        connection.close()


if __name__ == "__main__":
    for change in follow(sys.argv[1]):
        print(json.dumps(change), flush=True)
