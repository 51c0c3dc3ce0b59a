"""gunicorn's settings: what gunicorn makes of them, and that reading them loads nothing."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.app.wsgiapp import WSGIApplication

import pgevents_push.gunicorn_conf

ROOT = Path(__file__).parents[2]


def configured(monkeypatch: pytest.MonkeyPatch, location: str, *arguments: str) -> dict[str, object]:
    importlib.reload(pgevents_push.gunicorn_conf)
    monkeypatch.setattr(sys, "argv", ["gunicorn", "-c", location, *arguments, "app:app"])
    settings: dict[str, object] = {name: s.get() for name, s in WSGIApplication("").cfg.settings.items()}
    return settings


def test_gunicorn_takes_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    settings = configured(monkeypatch, "python:pgevents_push.gunicorn_conf")
    assert settings["worker_class"] == "gevent"
    assert settings["workers"] == 3
    assert settings["control_socket_disable"] is True
    assert set(pgevents_push.gunicorn_conf.__all__) <= set(settings)


@pytest.mark.parametrize("value", [None, ""])
def test_as_many_workers_as_cores(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    if value is not None:
        monkeypatch.setenv("WEB_CONCURRENCY", value)
    settings = configured(monkeypatch, "python:pgevents_push.gunicorn_conf")
    assert settings["workers"] == len(os.sched_getaffinity(0))


def test_a_configuration_of_ones_own_and_the_command_line_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "gunicorn.conf.py"
    own.write_text("from pgevents_push.gunicorn_conf import *\ngraceful_timeout = 7\nworkers = 4\n")
    settings = configured(monkeypatch, str(own), "-w", "5")
    assert (settings["worker_class"], settings["graceful_timeout"], settings["workers"]) == ("gevent", 7, 5)


def test_reading_it_loads_nothing_that_gevent_has_still_to_patch() -> None:
    look = "import sys, pgevents_push.gunicorn_conf; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", look], text=True, cwd=ROOT).split()
    assert not {"flask", "sqlalchemy", "psycopg2", "gevent", "threading", "ssl"} & set(loaded)
