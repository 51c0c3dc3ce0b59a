"""Serving: knows whether this process serves requests, and when it stops. Opens nothing by itself.

A process that merely imports the app (gunicorn's master, `flask shell`, `flask db upgrade`, a test run) must
not listen; one that serves must, even before its first request. How each is recognised:

gunicorn
    A worker that loads the app is seen on the call stack; its documented hook `post_worker_init` is chained and
    runs once the worker is ready, after gevent has patched. With `--preload` the master loads the app: the hook is
    chained in each worker right after the fork, which the stack of the forking arbiter gives away. The worker's
    `alive` flag tells when it was asked to stop.
`flask run`, and a script that runs its own app (`app.run()`, gevent.pywsgi's `serve_forever()`)
    A watcher looks, twenty times a second, whether such a `serve_forever` runs on one of the stacks. The
    parent of the debug reloader loads the app too but never serves. The watcher exists only where serving is
    to be expected: under the click command `run`, or when the app's module is `__main__`.
anything else
    The first request starts it, or `events.start(app)`.
"""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

import click
from flask import Flask

from pgevents_push import waiting

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.05
_SERVE_FOREVER = {("werkzeug.serving", "serve_forever"), ("gevent.baseserver", "serve_forever")}


class Service(Protocol):
    """What starts when the process begins to serve and stops when it ends. Both may be called twice."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


# Services of apps that were loaded before a fork: a forked gunicorn worker starts them.
_services: weakref.WeakSet[Service] = weakref.WeakSet()
_watched: list[Service] = []


def start_when_serving(service: Service, app: Flask) -> None:
    """Start the service as soon as this process serves, in whatever way its server allows to know it."""
    if not _services:
        os.register_at_fork(after_in_child=_after_fork)
    _services.add(service)
    worker = _gunicorn_worker()
    if worker is not None:
        _start_with(worker, service)
    elif _may_serve_later(app):
        _watch(service)


def _gunicorn_worker() -> Any:
    """Return the gunicorn worker that is loading this app, or that has just been forked; None elsewhere."""
    for frame in _callers():
        module, values = frame.f_globals.get("__name__"), frame.f_locals
        if module == "gunicorn.workers.base" and hasattr(values.get("self"), "cfg"):
            return values["self"]
        if module == "gunicorn.arbiter" and frame.f_code.co_name == "spawn_worker":
            return values.get("worker")
    return None


def _after_fork() -> None:
    _watched.clear()  # the watching thread stayed in the parent
    worker = _gunicorn_worker()
    if worker is not None:
        for service in list(_services):
            _start_with(worker, service)


def _start_with(worker: Any, service: Service) -> None:
    """Chain gunicorn's hook: what the user's own configuration put there still runs, first."""
    setting = worker.cfg.settings["post_worker_init"]
    configured: Callable[[Any], None] = setting.get()

    def post_worker_init(worker: Any) -> None:
        configured(worker)
        _warn_of(worker)
        service.start()
        waiting.spawn(_stop_with, worker, service, name="pgevents-serving")

    setting.set(post_worker_init)


def _warn_of(worker: Any) -> None:
    if worker.cfg.worker_class_str == "sync":
        log.warning(
            "gunicorn's sync worker serves one request at a time: a single open stream blocks it. "
            "Handlers run, but for browsers use: gunicorn -k gevent, or --threads 50"
        )


def _stop_with(worker: Any, service: Service) -> None:
    # SIGTERM, a reload and max_requests all just clear this flag; gunicorn then waits for open streams until
    # its graceful timeout (30 s) and cuts them. So they are ended here.
    while worker.alive:
        waiting.sleep(2 * LOOK_SECONDS)
    service.stop()


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _may_serve_later(app: Flask) -> bool:
    context = click.get_current_context(silent=True)
    return (context is not None and context.info_name == "run") or app.import_name == "__main__"


def _watch(service: Service) -> None:
    _watched.append(service)
    if len(_watched) == 1:
        waiting.spawn(_start_watched, name="pgevents-serving")


def _start_watched() -> None:
    while _watched and not is_serving():
        waiting.sleep(LOOK_SECONDS)
    while _watched:
        service = _watched.pop()
        try:
            service.start()
        except Exception:  # nobody waits for this thread: say it, and let the first request try again
            log.exception("could not start with the server")


def is_serving() -> bool:
    """Whether a development server's or gevent.pywsgi's main loop runs in this process."""
    for frame in waiting.frames():
        inner: FrameType | None = frame
        while inner is not None:
            if (inner.f_globals.get("__name__"), inner.f_code.co_name) in _SERVE_FOREVER:
                return True
            inner = inner.f_back
    return False
