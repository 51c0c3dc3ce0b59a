"""S3, S6, S7, S10, S15, S16 where rows are shown: however a snapshot ends, nothing stays and nothing follows."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Response

from pgevents_push.extension import snapshots
from tests.fixtures.buffers import MORE_THAN_FITS, WIDE
from tests.fixtures.house import House
from tests.fixtures.patience import wait_until
from tests.fixtures.watch import canary
from tests.fixtures.web import Site
from tests.fixtures.ws_client import StrictClient

Connect = Callable[..., StrictClient]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who takes nothing is shown out in these tests for the sake of those who wait."""
    monkeypatch.setattr(snapshots, "STALLED_SECONDS", 60.0)


@pytest.fixture
def site(house: House) -> Site:
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id", "title"], authorize=lambda asked: asked.identity is not None)
    house.sql(f"GRANT SELECT ON docs TO {house.role}")
    return house.open(PGEVENTS_MAX_SNAPSHOTS=3, PGEVENTS_SNAPSHOT_SECONDS=20)


def wide_rows(house: House, count: int = MORE_THAN_FITS) -> None:
    house.sql(
        "INSERT INTO docs SELECT n, repeat('x', %s), %s FROM generate_series(1, %s) AS n", WIDE, canary("s"), count
    )


def get(
    site: Site, path: str = "/pgevents/snapshot?table=docs", user: str = "ann", method: str = "GET"
) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", site.port), 20)
    client.sendall(f"{method} {path} HTTP/1.0\r\nHost: x\r\nX-User: {user}\r\n\r\n".encode())
    return client


def everything(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(1 << 20), b""))


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# --- S6, S7: revoked in the middle


def test_s06_who_is_revoked_in_the_middle_of_the_rows_gets_no_more_of_them(
    site: Site, house: House, connect: Connect
) -> None:
    wide_rows(house)
    with ExitStack() as stack:
        document = get(site)
        cut = document.recv(1000)  # its turn has come
        stream = get(site, "/pgevents/stream?table=docs&snapshot=1")
        ws = connect(site, headers="X-User: ann\r\n")
        ws.send({"type": "subscribe", "ref": "1", "table": "docs", "snapshot": True})
        bob = get(site, user="bob")
        for client in (document, stream, bob):
            stack.callback(client.close)
        wait_until(lambda: house.inside() == 4)
        wait_until(lambda: house.runtime().snapshots._at_work == 3)
        house.sql("SELECT pgevents.revoke_v1('ann')")
        assert b'"reason":"revoked"' in everything(stream)[-300:]
        assert ws.close_code() == 4403
        cut += everything(document)
        assert cut.startswith(b"HTTP/1.1 200 ")
        assert len(cut) < MORE_THAN_FITS * WIDE
        assert not cut.endswith((b"]}\n", b"0\r\n\r\n"))
        wait_until(lambda: house.inside() == 1)
        assert len(everything(bob)) > MORE_THAN_FITS * WIDE
    wait_until(lambda: house.inside() == 0)


@pytest.mark.parametrize("way", ["document", "sse", "ws"])
def test_s06_rows_that_are_committed_after_the_revocation_are_shown_to_nobody(
    house: House, connect: Connect, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although this process has not read of it yet: rows are read beside the log, and may be newer than what it has."""

    def may_see(asked: object) -> bool:
        house.sql("SELECT pgevents.revoke_v1('ann')")
        house.sql("INSERT INTO docs VALUES (1, %s, 's')", canary("after"))
        return True

    house.events.identify(house.user)
    house.events.expose("docs", columns=["id", "title"], authorize=may_see)
    house.sql(f"GRANT SELECT ON docs TO {house.role}")
    site = house.open()
    running: Any = house.runtime()._alive()
    heard = running.doors.hear

    def late(events: Any, *, first: bool) -> None:
        if events:
            assert not threading.Event().wait(0.5)  # a listener that is busy
        heard(events, first=first)

    monkeypatch.setattr(running.doors, "hear", late)
    if way == "document":
        assert site.ask("/pgevents/snapshot?table=docs", X_User="ann").status == 503
    elif way == "sse":
        assert site.stream("table=docs&snapshot=1", X_User="ann").next("bye", "snapshot").data["reason"] == "revoked"
    else:
        ws = connect(site, headers="X-User: ann\r\n")
        ws.send({"type": "subscribe", "ref": "1", "table": "docs", "snapshot": True})
        assert ws.close_code() == 4403


# --- S16: one connection, one place in the line


def test_s16_a_socket_has_one_place_in_the_line_for_rows_and_one_queue_of_them(
    site: Site, house: House, connect: Connect
) -> None:
    """However many subscriptions want rows: they come one after the other, the rest of the line is for others."""
    wide_rows(house)
    ws = connect(site, headers="X-User: ann\r\n")
    for number in range(20):
        asked = {"limit": 1} if number else {}
        ws.send({"type": "subscribe", "ref": str(number), "table": "docs", "snapshot": True, **asked})
    reading = house.runtime().snapshots
    wait_until(lambda: reading._at_work == 1)
    assert len(document(site, "table=docs&limit=1")) == 1  # somebody else's turn comes meanwhile
    assert (reading._at_work, len(reading._line)) == (1, 0)
    done: list[str] = []
    while len(done) < 20:
        message = ws.message()
        done += [message["ref"]] if message["type"] == "ready" else []
    assert sorted(done, key=int) == [str(number) for number in range(20)]


def document(site: Site, query: str) -> list[Any]:
    rows: list[Any] = json.loads(site.ask(f"/pgevents/snapshot?{query}", X_User="bob").body)["rows"]
    return rows


# --- S15: places


ENDINGS = [
    "whole", "head", "refused", "gone before an answer", "reset in the middle", "closed in the middle", "replaced",
    "lifetime", "revoked", "no rows to be had", "waits in line and goes",
]  # fmt: skip


@pytest.mark.parametrize("ending", ENDINGS)
def test_s15_each_ending_of_a_document_gives_its_place_back(house: House, ending: str) -> None:
    house.events.identify(house.user)
    house.events.expose("docs", columns=["id", "title"], authorize=lambda asked: ending != "refused")
    if ending != "no rows to be had":
        house.sql(f"GRANT SELECT ON docs TO {house.role}")
    lives = 1.0 if ending == "lifetime" else 0
    site = house.open(PGEVENTS_MAX_SNAPSHOTS=1, PGEVENTS_SNAPSHOT_SECONDS=8, PGEVENTS_MAX_STREAM_SECONDS=lives)
    wide_rows(house, 3 if ending in ("whole", "head", "replaced") else 20)
    if ending == "replaced":
        house.apps[0].after_request(lambda response: Response("other"))
    with ExitStack() as stack:
        if ending == "waits in line and goes":
            stack.callback(get(site, user="bob").close)
            wait_until(lambda: house.runtime().snapshots._at_work == 1 and house.inside() == 1)
        client = get(site, method="HEAD" if ending == "head" else "GET")
        if ending == "gone before an answer":
            reset(client)
        elif ending == "waits in line and goes":
            wait_until(lambda: len(house.runtime().snapshots._line) == 1)
            reset(client)
        elif ending.endswith("middle"):
            assert client.recv(100_000)
            (reset if ending.startswith("reset") else socket.socket.close)(client)
        elif ending in ("revoked", "lifetime"):
            assert client.recv(100_000)
            if ending == "revoked":
                house.sql("SELECT pgevents.revoke_v1('ann')")
            everything(client)
        else:
            client.recv(1000)
        client.close()
    wait_until(lambda: house.inside() == 0)
    wait_until(lambda: house.runtime().snapshots._at_work == 0)
    assert house.runtime().hub.connections == 0
