"""What the doctor makes of facts, and how it measures a stream: against a small server that plays the proxy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pgevents_push.capture import Status
from pgevents_push.doctor import Finding, judgement, stream, worst
from pgevents_push.doctor.judgement import ProcessFacts
from pgevents_push.doctor.server import ServerFacts
from pgevents_push.doctor.stream import ask_stream, judge_stream
from pgevents_push.event import TableName

WELL = ServerFacts(
    version=150004, in_recovery=False, role="app", queue_usage=0.0, has_log=True, may_read=True, log_bytes=9_000_000,
    log_rows=1234, owner="pgevents_owner", owner_logs_in=False, owner_is_super=False, oldest_seconds=300.0,
    pooled=False, shared=False, heard=0.001,
)  # fmt: skip
ORDERS = TableName("public", "Order Line")


def said(findings: Any) -> dict[str, list[str]]:
    """The findings by severity; what is wrong always has a cure."""
    shown: dict[str, list[str]] = {}
    for finding in findings:
        assert finding.cure or finding.severity in ("ok", "note"), finding
        assert finding.what.endswith("."), finding
        shown.setdefault(finding.severity, []).append(f"{finding.what} {finding.cure}")
    return shown


def server(wakeup: Any = "notify", **facts: Any) -> dict[str, list[str]]:
    return said(judgement.judge_server(replace(WELL, **facts), wakeup, "AUDIT_PGEVENTS"))


def test_all_is_well() -> None:
    assert list(server()) == ["ok"]
    assert list(said(judgement.judge_log(WELL))) == ["ok"]
    assert list(said(judgement.judge_owner(WELL))) == ["ok"]
    assert worst([]) == "ok"
    assert worst([Finding("warning", ""), Finding("error", ""), Finding("note", "")]) == "error"


@pytest.mark.parametrize(
    ("facts", "severity", "words"),
    [
        ({"version": 130012}, "error", "PostgreSQL 13.12"),
        ({"in_recovery": True}, "error", "replica"),
        ({"heard": None}, "error", "did not arrive"),
        ({"shared": True, "pooled": True, "heard": 0.0}, "warning", "transaction mode"),
        ({"queue_usage": 0.5}, "warning", "50% full"),
    ],
)
def test_the_server(facts: dict[str, Any], severity: str, words: str) -> None:
    [text] = server(**facts)[severity]
    assert words in text


def test_the_cure_names_the_settings_of_this_instance() -> None:
    [text] = server(heard=None)["error"]
    assert "AUDIT_PGEVENTS_DATABASE_URL" in text
    assert "AUDIT_PGEVENTS_WAKEUP" in text


@pytest.mark.parametrize("facts", [{"heard": None}, {"shared": True}])
def test_who_polls_needs_no_notify(facts: dict[str, Any]) -> None:
    assert set(server("poll", **facts)) == {"ok", "note"}


@pytest.mark.parametrize(
    ("word", "severity", "words"),
    [
        ("current", "ok", "is captured"),
        ("missing", "error", "no trigger"),
        ("disabled", "error", "disabled"),
        ("outdated", "warning", "outdated"),
        ("absent", "warning", "does not exist"),
        ("refused", "error", "it is a view"),
    ],
)
def test_a_table(word: str, severity: str, words: str) -> None:
    status = Status("current", {ORDERS: word}, refused={ORDERS: "it is a view"})
    shown = said(judgement.judge_capture(status, [ORDERS], "auto"))
    assert list(shown) == [severity]
    assert words in shown[severity][0]


def test_the_schema_orphans_and_no_table() -> None:
    assert "missing" in said(judgement.judge_capture(Status("missing", {}), [], "auto"))["error"][0]
    assert "outdated" in said(judgement.judge_capture(Status("outdated", {}), [ORDERS], "auto"))["warning"][0]
    orphan = Status("current", {ORDERS: "current"}, orphans=(TableName("public", "old"),))
    assert "uninstall public.old" in said(judgement.judge_capture(orphan, [ORDERS], "auto"))["note"][0]
    assert "no table" in said(judgement.judge_capture(Status("current", {}), [], "auto"))["warning"][0]
    stranger = Status("current", {}, owner="mallory", trusted=False)
    assert "'mallory'" in said(judgement.judge_capture(stranger, [ORDERS], "auto"))["error"][0]
    off = said(judgement.judge_capture(Status("missing", {}), [ORDERS], "off"))["error"][0]
    assert "'off'" in off


@pytest.mark.parametrize(
    ("facts", "severity", "words"),
    [
        ({"may_read": False}, "error", "--reader app"),
        ({"log_bytes": 2_500_000_000}, "warning", "2.5 GB"),
        ({"oldest_seconds": 3 * 86_400.0}, "warning", "3 days"),
        ({"oldest_seconds": None}, "ok", "1,234 rows"),
    ],
)
def test_the_log(facts: dict[str, Any], severity: str, words: str) -> None:
    assert words in said(judgement.judge_log(replace(WELL, **facts)))[severity][0]


def test_the_owner() -> None:
    super_ = replace(WELL, owner="postgres", owner_logs_in=True, owner_is_super=True)
    assert "superuser" in said(judgement.judge_owner(super_))["warning"][0]
    assert "can log in" in said(judgement.judge_owner(replace(WELL, owner="app", owner_logs_in=True)))["note"][0]
    assert not said(judgement.judge_owner(replace(WELL, owner=None)))


@pytest.mark.parametrize(
    ("facts", "severities"),
    [
        (ProcessFacts(False, False, False), {"note"}),
        (ProcessFacts(False, True, False), {"error", "note"}),
        (ProcessFacts(True, False, False), {"warning", "note"}),
        (ProcessFacts(True, False, True), {"ok", "note"}),
    ],
)
def test_the_process(facts: ProcessFacts, severities: set[str]) -> None:
    assert set(said(judgement.judge_process(facts))) == severities


# --- The stream, through something that plays a proxy

FIRST = b": pgevents_push\n\nretry: 2000\n\n"
READY = b'id: 1\nevent: ready\ndata: {"resumed":false,"tables":["public.orders"],"heartbeat":0.2}\n\n'
SYNC = b"id: 1\nevent: sync\ndata: {}\n\n"
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store, no-transform"}
Play = Callable[[Any], None]


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Play], str]]:
    """Return what serves a function of the request's handler; yields the URL. Deadlines are short."""
    monkeypatch.setattr(stream, "FIRST_SECONDS", 0.3)
    monkeypatch.setattr(stream, "SLACK_SECONDS", 0.3)
    with ExitStack() as stack:

        def serve(play: Play, health: bytes = b'{"status":"listening"}') -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    if self.path != "/pgevents/health":
                        return play(self)
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(health)
                    return None

                def log_message(self, format: str, *args: Any) -> None:
                    pass

            made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            made.daemon_threads, made.block_on_close = True, False
            thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(made.server_close)
            stack.callback(thread.join, 5)
            stack.callback(made.shutdown)
            return f"http://127.0.0.1:{made.server_port}/pgevents/stream?table=orders"

        yield serve


def playing(*chunks: bytes | float, status: int = 200, **headers: str) -> Play:
    """Send the headers, then the chunks; a number is a pause. Stays open for a while at the end."""

    def play(handler: Any) -> None:
        handler.send_response(status)
        for name, value in {**HEADERS, **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
            handler.send_header(name, value)
        handler.end_headers()
        for chunk in (*chunks, 1.0):
            if isinstance(chunk, float):
                time.sleep(chunk)
            else:
                handler.wfile.write(chunk)

    return play


def judged(url: str) -> dict[str, list[str]]:
    return said(judge_stream(ask_stream(url, 0.2, {})))


def test_a_stream_that_flows(proxy: Any) -> None:
    assert list(judged(proxy(playing(FIRST, READY, 0.2, SYNC)))) == ["ok"]


@pytest.mark.parametrize("health", [b'{"status":"deaf","one_at_a_time":true}', b"<html>", b"[]"])
def test_a_server_that_takes_one_request_at_a_time(proxy: Any, health: bytes) -> None:
    found = judged(proxy(playing(FIRST, READY, 0.2, SYNC), health))
    assert ("error" in found) == (b"true" in health)
    if b"true" in health:
        assert "one request at a time" in found["error"][0]


def test_ready_in_pieces(proxy: Any) -> None:
    assert list(judged(proxy(playing(FIRST, READY[:30], 0.1, READY[30:], 0.1, SYNC)))) == ["ok"]


def test_a_proxy_that_holds_everything_back(proxy: Any) -> None:
    [text] = judged(proxy(lambda handler: time.sleep(1)))["error"]
    assert "No byte" in text
    assert "proxy_buffering off" in text


def test_a_proxy_that_passes_only_the_headers(proxy: Any) -> None:
    assert "No byte" in judged(proxy(playing()))["error"][0]


def test_a_proxy_that_holds_back_what_comes_later(proxy: Any) -> None:
    assert "heartbeat of 0.2 s" in judged(proxy(playing(FIRST, READY)))["error"][0]


def test_a_proxy_that_compresses(proxy: Any) -> None:
    assert "(gzip)" in judged(proxy(playing(FIRST, Content_Encoding="gzip")))["error"][0]


def test_a_proxy_that_changes_the_headers(proxy: Any) -> None:
    shown = judged(proxy(playing(FIRST, READY, SYNC, Cache_Control="public")))
    assert "Cache-Control" in shown["warning"][0]


def test_no_stream_there(proxy: Any) -> None:
    assert "text/html" in judged(proxy(playing(b"<html>", Content_Type="text/html")))["error"][0]


@pytest.mark.parametrize(("status", "severity"), [(401, "note"), (302, "error"), (404, "error"), (502, "error")])
def test_other_answers(proxy: Any, status: int, severity: str) -> None:
    assert str(status) in judged(proxy(playing(status=status)))[severity][0]


def test_nobody_there() -> None:
    assert "could not be opened" in judged("http://127.0.0.1:9/pgevents/stream")["error"][0]
    assert "no http" in judged("ftp://x/")["error"][0]


def test_headers_go_along(proxy: Any) -> None:
    seen: list[str] = []

    def play(handler: Any) -> None:
        seen.append(handler.headers["Cookie"])
        playing(FIRST, READY, SYNC)(handler)

    ask_stream(proxy(play), 0.2, {"Cookie": "session=1"})
    assert seen == ["session=1"]
