"""How a process that serves is told from one that merely imports the app: by call stacks, without a real server."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import click
import pytest
from flask import Flask

from pgevents_push.extension import serving
from tests.fixtures.patience import wait_until


class Service:
    """Notes what happens to it."""

    def __init__(self, fails: bool = False) -> None:
        self.calls: list[str] = []
        self.fails = fails

    def start(self) -> None:
        self.calls.append("start")
        if self.fails:
            raise RuntimeError("cannot start")

    def stop(self) -> None:
        self.calls.append("stop")


class Setting:
    """gunicorn's post_worker_init."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def get(self) -> Any:
        return self.hook

    def set(self, hook: Any) -> None:
        self.hook = hook


def worker_of(kind: str = "gthread", hook: Any = lambda worker: None) -> Any:
    setting = Setting(hook)
    cfg = SimpleNamespace(worker_class_str=kind, settings={"post_worker_init": setting})
    return SimpleNamespace(cfg=cfg, alive=True, hook=lambda worker: setting.hook(worker))


def called_in(module: str, name: str, body: str, **values: Any) -> Any:
    """Call `look()` from a function of another module: a frame as a real server would have it."""
    scope: dict[str, Any] = {"__name__": module, **values}
    exec(f"def {name}(self=None, worker=None):\n    return {body}", scope)  # our own text, see above
    return scope[name]


def test_in_a_test_run_there_is_no_worker_and_nothing_serves() -> None:
    assert serving._gunicorn_worker() is None
    assert not serving.is_serving()


def test_a_gunicorn_worker_that_loads_the_app_is_on_the_stack() -> None:
    worker = worker_of()
    load = called_in("gunicorn.workers.base", "load_wsgi", "look()", look=serving._gunicorn_worker)
    assert load(self=worker) is worker


def test_the_arbiter_that_loads_the_app_is_no_worker() -> None:
    setup = called_in("gunicorn.arbiter", "setup", "look()", look=serving._gunicorn_worker)
    assert setup(self=worker_of(), worker=worker_of()) is None


def test_the_child_of_a_forking_arbiter_is_a_worker() -> None:
    worker = worker_of()
    spawn = called_in("gunicorn.arbiter", "spawn_worker", "look()", look=serving._gunicorn_worker)
    assert spawn(worker=worker) is worker


def test_the_service_starts_with_the_worker_and_stops_with_it() -> None:
    order: list[str] = []
    worker, service = worker_of(hook=lambda worker: order.append("configured")), Service()
    serving._start_with(worker, service)
    assert service.calls == []
    worker.hook(worker)
    assert (order, service.calls) == (["configured"], ["start"])
    worker.alive = False
    wait_until(lambda: service.calls == ["start", "stop"])


def test_two_services_of_one_worker_are_both_started() -> None:
    worker, services = worker_of(), [Service(), Service()]
    for service in services:
        serving._start_with(worker, service)
    worker.hook(worker)
    assert [service.calls for service in services] == [["start"], ["start"]]
    worker.alive = False
    wait_until(lambda: all(service.calls == ["start", "stop"] for service in services))


@pytest.mark.parametrize(("kind", "warned"), [("sync", True), ("gthread", False), ("gevent", False)])
def test_a_sync_worker_is_warned_of(kind: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    serving._warn_of(worker_of(kind))
    assert ("sync worker" in caplog.text) is warned


@pytest.mark.parametrize("module", ["werkzeug.serving", "gevent.baseserver"])
def test_a_servers_main_loop_is_seen_from_another_thread(module: str) -> None:
    begun, end = threading.Event(), threading.Event()
    loop = called_in(module, "serve_forever", "(begun.set(), end.wait(10))", begun=begun, end=end)
    thread = threading.Thread(target=loop)
    thread.start()
    assert begun.wait(30)
    assert serving.is_serving()
    end.set()
    thread.join(30)
    assert not serving.is_serving()


def test_serving_is_to_be_expected_of_a_script_and_of_flask_run() -> None:
    assert serving._may_serve_later(Flask("__main__", root_path="."))
    assert not serving._may_serve_later(Flask("shop", root_path="."))
    for name, expected in (("run", True), ("shell", False), ("routes", False)):
        with click.Context(click.Command(name), info_name=name):
            assert serving._may_serve_later(Flask("shop", root_path=".")) is expected


def test_a_watched_service_starts_when_the_loop_runs_and_one_that_fails_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, end = threading.Event(), threading.Event()
    services = [Service(), Service(fails=True), Service()]
    for service in services:
        serving._watch(service)
    assert all(service.calls == [] for service in services)
    loop = called_in("werkzeug.serving", "serve_forever", "(begun.set(), end.wait(10))", begun=begun, end=end)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        wait_until(lambda: all(service.calls == ["start"] for service in services))
        wait_until(lambda: "could not start with the server" in caplog.text)
    finally:
        end.set()
        thread.join(30)
