"""Examination: asks the server, the process and the proxy, and lists what was found; the worst never stops the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pgevents_push import waiting
from pgevents_push.doctor import judgement
from pgevents_push.doctor.finding import Finding
from pgevents_push.doctor.server import ask_server
from pgevents_push.doctor.stream import ask_stream, judge_stream
from pgevents_push.errors import PGEventsError
from pgevents_push.extension import Runtime
from pgevents_push.listener import has_wait_callback


def examine(runtime: Runtime, url: str | None = None, headers: Mapping[str, str] | None = None) -> list[Finding]:
    """Return what was found, in the order in which it is to be cured. Writes nothing.

    :param url: of a stream, through the proxy that users go through.
    :param headers: for that request.
    """
    findings = [*_database(runtime), *judgement.judge_process(_process())]
    if url is not None:
        findings += judge_stream(ask_stream(url, runtime.config.heartbeat_seconds, headers or {}))
    return [_without_password(finding, runtime.database.dsn) for finding in findings]


def _database(runtime: Runtime) -> Iterator[Finding]:
    prefix, config = runtime.database.prefix, runtime.config
    try:
        facts = ask_server(runtime)
    except PGEventsError as error:
        yield Finding(
            "error",
            f"The database is not reached: {str(error).rstrip('.')}.",
            f"Is it up? Is {prefix}_DATABASE_URL (or SQLALCHEMY_DATABASE_URI) right, its password and its pg_hba.conf?",
        )
        return
    yield from judgement.judge_server(facts, config.wakeup, prefix)
    try:
        status = runtime.installer().status(runtime.tables)
        yield from judgement.judge_capture(status, runtime.tables, config.install)
    except PGEventsError as error:
        yield Finding("error", "The triggers cannot be looked at.", str(error))
    yield from judgement.judge_log(facts)
    yield from judgement.judge_rows(facts)
    yield from judgement.judge_owner(facts)


def _process() -> judgement.ProcessFacts:
    return judgement.ProcessFacts(waiting.cooperative(), waiting.half_patched(), has_wait_callback())


def _without_password(finding: Finding, dsn: Mapping[str, Any]) -> Finding:
    """libpq's messages name host, user and database, never the password; unless the URL was written wrongly."""
    password = str(dsn.get("password") or "")
    return replace(finding, what=finding.what.replace(password, "***")) if len(password) > 3 else finding
