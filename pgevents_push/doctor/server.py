"""Server: asks PostgreSQL what the doctor wants to know, through the configured URL as the listener would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from pgevents_push.errors import ConnectionLost, RowsError
from pgevents_push.extension import Runtime
from pgevents_push.listener import Connection, find_table
from pgevents_push.sql import statement

# Not the listeners' own: the probe wakes nobody.
PROBE_CHANNEL = "pgevents_doctor"
PROBE_SECONDS = 1.0

_SERVER, _OLDEST = (statement("pgevents_push.doctor", name) for name in ("server.sql", "oldest.sql"))


@dataclass(frozen=True)
class ServerFacts:
    """What was found. `heard`: seconds until a NOTIFY of one connection reached another; None when none did;
    not tried (0) on a replica, where NOTIFY is forbidden, and through a pooler that shares sessions.
    `unread`: the exposed tables whose rows cannot be shown, and the cure for each."""

    version: int
    in_recovery: bool
    role: str
    queue_usage: float
    has_log: bool
    may_read: bool
    log_bytes: int
    log_rows: int
    owner: str | None
    owner_logs_in: bool
    owner_is_super: bool
    oldest_seconds: float | None
    pooled: bool
    shared: bool
    heard: float | None
    unread: tuple[tuple[str, str], ...] = ()


def ask_server(runtime: Runtime) -> ServerFacts:
    """Ask. Writes nothing.

    :raises ConnectionLost: the server cannot be reached, or refused.
    """
    connection = runtime.connect()
    try:
        [row] = connection.execute(_SERVER)
        version, in_recovery, role, usage, has_log, may_read, log_bytes, log_rows, owner, logs_in, is_super = row
        shared = connection.is_shared()
        heard = 0.0 if in_recovery or shared else _probe(runtime, connection)
        oldest = connection.execute(_OLDEST) if may_read else []
        return ServerFacts(
            version=version,
            in_recovery=in_recovery,
            role=role,
            queue_usage=float(usage),
            has_log=has_log,
            may_read=may_read,
            log_bytes=log_bytes,
            log_rows=log_rows,
            owner=owner,
            owner_logs_in=logs_in,
            owner_is_super=is_super,
            oldest_seconds=max(0.0, oldest[0][0]) if oldest else None,
            pooled=connection.pooled,
            shared=shared,
            heard=heard,
            unread=tuple(_unread(runtime, connection)),
        )
    finally:
        connection.close()


def _unread(runtime: Runtime, connection: Connection) -> Iterator[tuple[str, str]]:
    for table in runtime.gate.exposed:
        try:
            find_table(connection.execute, table)
        except RowsError as error:
            if error.cure:  # else there is no such table yet, which is no matter of rights
                yield error.what, error.cure


def _probe(runtime: Runtime, ear: Connection) -> float | None:
    """LISTEN here, NOTIFY from there; return how many seconds it took, or None."""
    ear.execute(f"LISTEN {PROBE_CHANNEL}")
    mouth = runtime.connect()
    try:
        began = time.monotonic()
        mouth.execute(f"NOTIFY {PROBE_CHANNEL}")
        while (left := began + PROBE_SECONDS - time.monotonic()) > 0:
            if ear.wait(left) == "rung":
                return time.monotonic() - began
        return None
    except ConnectionLost:
        return None  # what was broken besides is found by the other questions
    finally:
        mouth.close()
