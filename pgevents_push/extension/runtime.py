"""Runtime: the state of one app in one process: its hub, handlers and listener; starts and stops them."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from typing import Any

from flask import Flask

from pgevents_push import signals, waiting
from pgevents_push.capture import Installer, Retention
from pgevents_push.config import Config
from pgevents_push.errors import ServerError
from pgevents_push.event import ChangeEvent, TableName
from pgevents_push.extension.captured import Captured
from pgevents_push.extension.creation import capture_on_creation
from pgevents_push.extension.database import Database
from pgevents_push.extension.declarations import Declarations
from pgevents_push.extension.replay import Replay
from pgevents_push.handlers import Dispatcher, Handler, Tally
from pgevents_push.hub import Hub
from pgevents_push.listener import Batch, Connection, Ears, Listener, Pruner, Pulse, Status
from pgevents_push.transports.gate import Gate

# Between two pieces of a large batch: time for the couriers to send.
COURIERS_SECONDS = 0.001

# What a forked child inherits of its parent's listener. It is kept for ever, because letting go of a
# connection would say good-bye on a socket that the parent still uses.
_inherited: list[object] = []


class _Running:
    """What exists only while a process listens."""

    def __init__(self, runtime: Runtime) -> None:
        config = runtime.config
        self.pid = os.getpid()
        self.hub = Hub(config.history_bytes)
        self.replay = Replay(self.hub, runtime.connect, config.max_batch_events)
        self._piece_bytes = config.max_queue_bytes // 4
        self.dispatcher = Dispatcher(runtime.app, runtime.handlers, config.handler_queue_events)
        self.captured = Captured(runtime.installer(), config, lambda: runtime.tables, self.hub.capture, self.hub.lose)
        self.pruner = Pruner(runtime.database.dsn, config.retention_seconds, config.connect_timeout_seconds)
        self.pulse = Pulse(runtime.listener_changed)
        ears = Ears(
            dsn=runtime.database.dsn,
            prepare=self.captured.prepare,
            on_batch=self._take,
            on_lost=self.hub.lose,
            on_round=self._look,
            poll_seconds=config.poll_seconds,
            heartbeat_seconds=config.heartbeat_seconds,
            timeout_seconds=config.connect_timeout_seconds,
            max_batch_events=config.max_batch_events,
            wakeup=config.wakeup,
        )
        self.listener = Listener(ears, self.pulse)

    def _look(self) -> None:
        self.captured.look()
        self.pruner.look()

    def _take(self, batch: Batch) -> None:
        """Hand a batch on, in pieces that fit well into a mailbox. Under gevent no courier runs meanwhile, and all
        clients would count as slow because of one large transaction."""
        pieces = _pieces(batch.events, self._piece_bytes) or [()]
        for at, events in enumerate(pieces):
            if at:
                waiting.sleep(COURIERS_SECONDS)
            self.hub.publish(events, events[-1].cursor if events else str(batch.cursor))
        self.dispatcher.dispatch(batch.events)


def _pieces(events: Sequence[ChangeEvent], most_bytes: int) -> list[Sequence[ChangeEvent]]:
    """Cut events into pieces whose rows are about so long together."""
    pieces: list[Sequence[ChangeEvent]] = []
    start, size = 0, 0
    for at, event in enumerate(events, 1):
        size += len(event.row_json or "") + len(event.old_json or "")
        if size >= most_bytes or at == len(events):
            pieces.append(events[start:at])
            start, size = at, 0
    return pieces


class Runtime:
    """One app's listener and what hangs on it. `start` and `stop` may be called at any time, in any order."""

    def __init__(self, app: Flask, declarations: Declarations, config: Config, database: Database) -> None:
        self.app = app
        self.config = config
        self.database = database
        self._declarations = declarations
        # Nothing waits while it is held, so it does no harm that gevent may patch only later.
        self._starting = threading.Lock()
        self._running: _Running | None = None
        self._ended: _Running | None = None
        self._stopped = False
        self._resolve()
        capture_on_creation(self)

    def _resolve(self) -> None:
        """Resolve the declarations for this app.

        :raises ConfigurationError: one of them is wrong here.
        """
        schema = self.config.default_schema
        targets = self._declarations.targets(schema)
        for target in targets:
            self.database.check(target, self.app)
        handlers, exposures = self._declarations.decorated(schema), self._declarations.exposures(schema)
        # In a fixed order: two processes that install them never wait for each other crosswise.
        self.tables: list[TableName] = sorted(target.name for target in targets)
        self.gate = Gate(exposures, schema)
        self._handlers = handlers

    def declared(self) -> None:
        """Something was declared, maybe while running: notice it.

        :raises ConfigurationError: it is wrong here.
        """
        self._resolve()
        if (running := self._alive()) is not None:
            running.captured.declared()

    def start(self) -> None:
        """Listen, in the background. Running in this process already: does nothing. After a fork the child
        starts anew and leaves its parent's connection alone.

        :raises ServerError: gevent patched one half of this process.
        """
        if waiting.half_patched():
            raise ServerError(
                "gevent must patch sockets and threads alike: call gevent.monkey.patch_all(), first of all."
            )
        with self._starting:
            if self._alive() is None:
                if self._running is not None:
                    _inherited.append(self._running)
                self._running = running = _Running(self)
                self._stopped = False
                running.listener.start()
                atexit.register(self.stop)

    def stop(self) -> None:
        """End all streams with a `bye`, the handlers after the event that each is handling, and the listener.
        Not running: does nothing."""
        running, self._stopped = self._alive(), True
        if running is None:
            return
        self._running, self._ended = None, running
        atexit.unregister(self.stop)
        running.hub.close("shutdown")
        running.listener.stop()
        running.pruner.stop()
        running.dispatcher.stop()
        running.replay.close()

    def on_request(self) -> None:
        """Start with the first request, where the server gave no earlier sign. A stopped runtime stays stopped,
        and a test client of an app under test starts nothing."""
        if self.config.autostart and not self._stopped and not self.app.testing and self._alive() is None:
            self.start()

    def _alive(self) -> _Running | None:
        running = self._running
        return running if running is not None and running.pid == os.getpid() else None

    @property
    def hub(self) -> Hub:
        """The hub of this process; starts listening, because a stream needs it. One that was stopped gives its
        closed hub, whose streams end with a `bye` at once: to an error EventSource would never come back, and
        gunicorn's gevent worker takes requests for up to a second after it was told to stop.

        :raises ServerError: nothing can listen in this process.
        """
        return self._serving().hub

    @property
    def replay(self) -> Replay:
        """What answers clients that come back; of this process, as the hub."""
        return self._serving().replay

    def _serving(self) -> _Running:
        if not self._stopped:
            self.start()
        running = self._alive() or self._ended
        if running is None or running.pid != os.getpid():
            raise ServerError("This process is stopping.")
        return running

    def connect(self) -> Connection:
        """Open a connection that reads the log."""
        return Connection(self.database.dsn, self.config.connect_timeout_seconds)

    def handlers(self) -> list[Handler]:
        """The handlers at this moment; SQLAlchemy's registrar may have got and lost some since."""
        return self._handlers + self._declarations.registered(self.config.default_schema)

    def installer(self) -> Installer:
        """Return what installs into this app's database."""
        return Installer(
            self.database.dsn,
            max_row_bytes=self.config.max_row_bytes,
            retention=Retention(self.config.retention_seconds, self.config.retention_rows),
            lock_timeout_seconds=self.config.lock_timeout_seconds,
            connect_timeout_seconds=self.config.connect_timeout_seconds,
        )

    def listener_changed(self, status: Status, error: str | None) -> None:
        signals.tell(signals.listener_changed, self.app, status=status, error=error)

    @property
    def status(self) -> Status:
        """The health in a word: that of the listener, but "starting" until the triggers were looked after once.
        "stopped" where nothing runs."""
        running = self._alive()
        if running is None:
            return "stopped"
        word = running.pulse.status
        return word if running.captured.looked or word != "listening" else "starting"

    def report(self) -> dict[str, Any]:
        """What /pgevents/health tells: nothing that an outsider may not know, so numbers and no names."""
        report: dict[str, Any] = {"status": self.status, "connections": 0, "tables": len(self.tables)}
        if (running := self._alive()) is not None:
            read = running.pulse.seconds_since_read
            report |= {
                "connections": running.hub.connections,
                "captured": running.captured.count,
                "seconds_since_read": None if read is None else round(read, 3),
                "reconnects": running.pulse.reconnects,
            }
        return report

    def tallies(self) -> list[Tally]:
        """How each handler of this process is doing."""
        running = self._alive()
        return [] if running is None else running.dispatcher.tallies()
