"""Judgement: what the facts mean, and what cures it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pgevents_push.capture import Status
from pgevents_push.doctor.finding import Finding
from pgevents_push.doctor.server import PROBE_SECONDS, ServerFacts
from pgevents_push.event import TableName
from pgevents_push.listener.doorbell import Wakeup

OLDEST_VERSION = 140000
QUEUE_USAGE = 0.1
LOG_BYTES = 1_000_000_000
LOG_SECONDS = 86_400.0

INSTALL = "Run, as a role that owns the tables: flask pgevents install."
DIRECT = "Give {prefix}_DATABASE_URL the address of PostgreSQL itself"


@dataclass(frozen=True)
class ProcessFacts:
    """How this very process is patched; the one that serves may be another."""

    cooperative: bool
    half_patched: bool
    has_wait_callback: bool


def judge_server(facts: ServerFacts, wakeup: Wakeup, prefix: str) -> Iterator[Finding]:
    """The server, the way to it, and the queue of notifications."""
    shown = f"{facts.version // 10000}.{facts.version % 10000}"
    if facts.version < OLDEST_VERSION:
        yield Finding("error", f"The server is PostgreSQL {shown}.", "Upgrade it to 14 or newer.")
    else:
        yield Finding("ok", f"PostgreSQL {shown} answers the role {facts.role!r}.")
    if facts.in_recovery:
        yield Finding(
            "error",
            "The server is a replica: nothing can be installed there, and LISTEN is refused.",
            f"Give {prefix}_DATABASE_URL the address of the primary.",
        )
    else:
        yield _doorbell(facts, wakeup, DIRECT.format(prefix=prefix), prefix)
    if facts.queue_usage > QUEUE_USAGE:
        yield Finding(
            "warning",
            f"The queue of notifications is {facts.queue_usage:.0%} full; when it is full, every NOTIFY fails.",
            "Look in pg_stat_activity for a session that did LISTEN and then stayed in one transaction, and end it.",
        )


def _doorbell(facts: ServerFacts, wakeup: Wakeup, direct: str, prefix: str) -> Finding:
    if facts.shared and wakeup == "poll":
        return Finding("note", "A pooler in transaction mode stands before PostgreSQL; the log is polled, as wanted.")
    if facts.shared:
        return Finding(
            "warning",
            "A pooler in transaction mode stands before PostgreSQL: LISTEN does not work through it, so the listener"
            " is deaf and polls the log each 10 to 250 ms.",
            f'{direct}, or say that this is wanted: {prefix}_WAKEUP = "poll".',
        )
    if facts.heard is None and wakeup == "notify":
        return Finding(
            "error",
            f"A NOTIFY did not arrive within {PROBE_SECONDS:g} s: something between us and PostgreSQL swallows it.",
            f'{direct}, or set {prefix}_WAKEUP = "poll".',
        )
    if facts.heard is None:
        return Finding("note", "A NOTIFY does not arrive, but the log is polled, as wanted.")
    through = " through a pooler in session mode" if facts.pooled else ""
    return Finding("ok", f"A NOTIFY arrives{through} after {facts.heard * 1000:.1f} ms.")


def judge_capture(status: Status, tables: Sequence[TableName], install: str) -> Iterator[Finding]:
    """The schema and the triggers."""
    cure = INSTALL if install == "auto" else f"{INSTALL} Processes of this app do not: its setting is {install!r}."
    if status.schema == "missing":
        yield Finding("error", "The schema pgevents is missing: no change is captured.", cure)
    elif status.schema != "current":
        yield Finding("warning", f"The schema pgevents is {status.schema}.", cure)
    if not status.trusted:
        yield Finding(
            "error",
            f"The schema pgevents belongs to {status.owner!r}, whose functions would see every row.",
            "Install as that role, or let a superuser run: ALTER SCHEMA pgevents OWNER TO pgevents_owner",
        )
    for name in tables:
        yield _table(name, status, cure)
    for name in status.orphans:
        what = f"{name} is captured, but no handler or expose() of this app asks for it."
        yield Finding("note", what, f"If no other app does: flask pgevents uninstall {name}")
    if not tables:
        cure = "Add a handler (@on_insert …) or expose(). They are there? Import their module where the app is made."
        yield Finding("warning", "The app declares no table.", cure)


def _table(name: TableName, status: Status, cure: str) -> Finding:
    word = status.tables.get(name, "absent")
    if word == "current":
        return Finding("ok", f"{name} is captured.")
    if word == "absent":
        return Finding("warning", f"{name} does not exist.", "Create it (db.create_all(), a migration), or correct it.")
    if word == "outdated":
        return Finding("warning", f"{name} has an outdated trigger.", cure)
    if word == "disabled":
        return Finding("error", f"The trigger on {name} is disabled: its changes are not captured.", cure)
    if word == "refused":
        cure = "Declare another table, or this one differently."
        return Finding("error", f"{name} cannot be captured: {status.refused.get(name)}.", cure)
    return Finding("error", f"{name} has no trigger: its changes are not captured.", cure)


def judge_log(facts: ServerFacts) -> Iterator[Finding]:
    """The log: who may read it, how large and how old it is."""
    if not facts.has_log:
        return
    if not facts.may_read:
        what = f"The role {facts.role!r} may not read the log, so nothing is heard."
        yield Finding("error", what, f"As its owner: flask pgevents install --reader {facts.role}")
    old, large = (facts.oldest_seconds or 0.0) > LOG_SECONDS, facts.log_bytes > LOG_BYTES
    what = f"The log has {_size(facts.log_bytes)}, about {facts.log_rows:,} rows"
    what += "." if facts.oldest_seconds is None else f"; the oldest is {_age(facts.oldest_seconds)} old."
    if old or large:
        yield Finding("warning", what, "Run: flask pgevents prune. An old transaction or a dump can delay it.")
    else:
        yield Finding("ok", what)


def judge_rows(facts: ServerFacts) -> Iterator[Finding]:
    """The exposed tables, of which somebody may want a snapshot."""
    return (Finding("warning", what, cure) for what, cure in facts.unread)


def judge_owner(facts: ServerFacts) -> Iterator[Finding]:
    """With whose rights the trigger's function runs, in every writer's transaction."""
    if facts.owner is None:
        return
    cure = "Let a role with CREATEROLE run: flask pgevents install. It makes an owner that cannot log in."
    if facts.owner_is_super:
        what = f"The functions belong to {facts.owner!r}, a superuser: they run with its rights for every writer."
        yield Finding("warning", what, cure)
    elif facts.owner_logs_in:
        what = f"The functions belong to {facts.owner!r}, who can log in: who does can read and change the log."
        yield Finding("note", what, cure)
    else:
        yield Finding("ok", f"The functions belong to {facts.owner!r}, which cannot log in.")


def judge_process(facts: ProcessFacts) -> Iterator[Finding]:
    """How gevent patched this process, and whether the app's own queries would block it."""
    first = "Call gevent.monkey.patch_all() before all other imports."
    if facts.half_patched:
        yield Finding("error", "gevent patched one half of this process: sockets or threads, but not both.", first)
    elif facts.cooperative and not facts.has_wait_callback:
        yield Finding(
            "warning",
            "gevent runs this process, but psycopg2 does not know: each query of the app stops all streams meanwhile.",
            "psycogreen.gevent.patch_psycopg() after patch_all() (pip install psycogreen); pgevents_push does without.",
        )
    elif facts.cooperative:
        yield Finding("ok", "gevent runs this process, and psycopg2 waits its way.")
    yield Finding(
        "note",
        "Which worker serves cannot be seen from here, but with --url; and a process that serves warns of a sync worker"
        " in its log, and of a half-patched one.",
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _age(seconds: float) -> str:
    for unit, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} seconds"
