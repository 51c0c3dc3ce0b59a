"""The README's code runs, and its first example does what is written beside it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

import pgevents_push
from tests.fixtures.patience import wait_until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def default_instance(monkeypatch: pytest.MonkeyPatch) -> pgevents_push.PGEvents:
    """A default instance of the test's own, so that one example's handlers are not another's."""
    fresh = pgevents_push.PGEvents()
    for name in ("on_insert", "on_update", "on_delete", "on_truncate", "on_change", "expose", "fragment"):
        monkeypatch.setattr(pgevents_push, name, getattr(fresh, name))
    monkeypatch.setattr(pgevents_push, "pgevents_bp", fresh.blueprint)
    monkeypatch.setattr(pgevents_push, "events", fresh)
    monkeypatch.setattr("pgevents_push.blueprint.events", fresh)
    return fresh


def run_first(database: Any) -> dict[str, Any]:
    code = blocks("python")[0].replace("postgresql+psycopg2:///postgres", database.url)
    assert database.url in code
    names: dict[str, Any] = {"__name__": "readme_app"}
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_first_example_prints_and_streams(
    database: Any, default_instance: pgevents_push.PGEvents, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_first(database)
    app: Flask = names["app"]
    default_instance.start(app)
    try:
        stream = app.test_client().get("/pgevents/stream?table=orders")
        frames: Any = iter(stream.response)
        assert b"event: ready" in next(frames) + next(frames)
        database.execute("INSERT INTO orders (item) VALUES ('a lamp')")
        frame = next(frames).decode()
        shown = re.search(r'^data: \{"id":"1".*$', README, re.MULTILINE)
        assert shown is not None
        assert _without_numbers(shown.group()) == _without_numbers(frame.splitlines()[2])
        wait_until(lambda: "a new order: a lamp" in capsys.readouterr().out)
        stream.close()
    finally:
        default_instance.stop(app)


def _without_numbers(text: str) -> str:
    return re.sub(r'"(tx|at|id)":"[^"]*"', r'"\1":"…"', text)


def test_all_other_python_blocks_run(database: Any, default_instance: pgevents_push.PGEvents) -> None:
    names = run_first(database)
    app, db = names["app"], names["db"]
    names["session"] = SimpleNamespace()

    class Invoice(db.Model):  # type: ignore[misc, name-defined]
        id = db.Column(db.Integer, primary_key=True)
        status = db.Column(db.Text)
        total = db.Column(db.Numeric)

    class Product(db.Model):  # type: ignore[misc, name-defined]
        id = db.Column(db.Integer, primary_key=True)
        purchase_price = db.Column(db.Numeric)

    class Shipment(db.Model):  # type: ignore[misc, name-defined]
        id = db.Column(db.Integer, primary_key=True)
        state = db.Column(db.Text)
        team_id = db.Column(db.Integer)

    names |= {"Invoice": Invoice, "Product": Product, "Shipment": Shipment}
    for number, code in enumerate(blocks("python")[1:], 2):
        exec(compile(code, f"README.md, Python block {number}", "exec"), names)
    names["test_greeting"](app)


def test_the_json_beside_the_messages_is_what_the_socket_takes() -> None:
    from pgevents_push.transports.ws_protocol import Ping, Subscribe, Unsubscribe, parse

    for text, kind in (
        ('{"type":"subscribe","ref":"1","table":"orders","events":["insert"]}', Subscribe),
        ('{"type":"unsubscribe","ref":"1"}', Unsubscribe),
        ('{"type":"ping"}', Ping),
    ):
        assert isinstance(parse(text), kind)


def test_it_can_be_read() -> None:
    assert len(README.splitlines()) <= 350
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
