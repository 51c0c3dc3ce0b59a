"""Runtime: the state of one app in one process: its hub, handlers and listener; starts and stops them."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

from flask import Flask

from pgevents_push import signals, waiting
from pgevents_push.capture import Installer, Mode, Retention
from pgevents_push.config import Config
from pgevents_push.errors import ServerError
from pgevents_push.event import TableName
from pgevents_push.extension.creation import capture_on_creation
from pgevents_push.extension.database import Database
from pgevents_push.extension.declarations import Declarations
from pgevents_push.extension.doors import Doors, tickets_of
from pgevents_push.extension.measures import of_delivery, of_gate, of_handlers, of_listener
from pgevents_push.extension.replay import Replay
from pgevents_push.extension.running import Running
from pgevents_push.extension.snapshots import Snapshots
from pgevents_push.handlers import Handler, Tally
from pgevents_push.hub import Hub
from pgevents_push.listener import Connection, Status
from pgevents_push.transports.entrance import Entrance, identity_of_caller
from pgevents_push.transports.exposition import Measure
from pgevents_push.transports.fragments import Fragments
from pgevents_push.transports.gate import Gate
from pgevents_push.transports.handover import Exchange
from pgevents_push.transports.places import Places
from pgevents_push.transports.ticket import Tickets
from pgevents_push.transports.ws import WebSocketEndpoint

# What a forked child inherits of its parent's listener. It is kept for ever, because letting go of a
# connection would say good-bye on a socket that the parent still uses.
_inherited: list[object] = []


class Runtime:
    """One app's listener and what hangs on it. `start` and `stop` may be called at any time, in any order."""

    def __init__(self, app: Flask, declarations: Declarations, config: Config, database: Database) -> None:
        self.app = app
        self.config = config
        self.database = database
        self._declarations = declarations
        # Nothing waits while it is held, so it does no harm that gevent may patch only later.
        self._starting = threading.Lock()
        self._running: Running | None = None
        self._ended: Running | None = None
        self._stopped = False
        self.sockets: WebSocketEndpoint | None = None
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
        modes = self._declarations.modes(schema)
        handlers, exposures = self._declarations.decorated(schema), self._declarations.exposures(schema)
        # In a fixed order: two processes that install them never wait for each other crosswise.
        self.tables: list[TableName] = sorted(target.name for target in targets)
        self.fragments = Fragments(self.app, self._declarations.fragments(schema))
        self.gate = Gate(
            exposures,
            schema,
            lambda table: self._serving().definitions.of(table),
            lambda persona, table, columns: self._serving().judging.verify(persona, table, columns),
            lambda table: self._serving().definitions.renewed(table),
        )
        self._handlers = handlers
        self._modes = modes

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
                self._running = running = Running(self)
                self._stopped = False
                running.listener.start()
                running.doors.start()
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
        if running.exchange is not None:
            running.exchange.stop()
        running.doors.stop()
        running.listener.stop()
        running.captured.stop()
        running.pruner.stop()
        running.dispatcher.stop()
        running.replay.close()
        running.judging.stop()
        running.snapshots.close()

    def on_request(self) -> None:
        """Start with the first request, where the server gave no earlier sign. A stopped runtime stays stopped,
        and a test client of an app under test starts nothing."""
        if self.config.autostart and not self._stopped and not self.app.testing and self._alive() is None:
            self.start()

    def _alive(self) -> Running | None:
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

    @property
    def exchange(self) -> Exchange | None:
        """What takes over connections in this process; None where the server keeps them."""
        return self._serving().exchange

    @property
    def snapshots(self) -> Snapshots:
        """What reads the rows that there are; of this process, as the hub."""
        return self._serving().snapshots

    @property
    def entrance(self) -> Entrance:
        """The way in; of this process, as the hub."""
        return self._serving().doors.entrance

    @property
    def places(self) -> Places:
        """Who is connected; of this process, as the hub."""
        return self._serving().doors.places

    @property
    def tickets(self) -> Tickets:
        """What issues this app's tickets."""
        return tickets_of(self.app, self.config, f"pgevents_push.ticket.{self.database.prefix}")

    def make_doors(self) -> Doors:
        """Return doors for a process, or for a single revocation."""
        return Doors(self.config, lambda: self.tickets, lambda: self._declarations.identify, self.connect)

    def identity(self) -> str | None:
        """Who the caller of the current request is.

        :raises RequestError: the app says that nobody may pass, or fails to say anything.
        """
        return identity_of_caller(self._declarations.identify)

    def revoke(self, identity: str) -> None:
        """End the streams of an identity in all processes, also from one that serves none.

        :raises ConnectionLost: the others could not be told.
        """
        if (running := self._alive()) is not None:
            return running.doors.revoke(identity)
        doors = self.make_doors()
        try:
            return doors.revoke(identity)
        finally:
            doors.stop()

    def _serving(self) -> Running:
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

    def mode(self, table: TableName) -> Mode:
        """How a table is to be captured, as is declared now."""
        return self._modes.get(table, "row")

    def installer(self) -> Installer:
        """Return what installs into this app's database."""
        return Installer(
            self.database.dsn,
            max_row_bytes=self.config.max_row_bytes,
            retention=Retention(self.config.retention_seconds, self.config.retention_rows),
            lock_timeout_seconds=self.config.lock_timeout_seconds,
            connect_timeout_seconds=self.config.connect_timeout_seconds,
            modes=self.mode,
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
                **({"cause": running.pulse.cause} if running.pulse.cause else {}),
            }
        return report

    def measures(self) -> list[Measure]:
        """What /pgevents/metrics tells of this process; nothing when it does not listen."""
        running = self._alive()
        if running is None:
            return []
        return [
            *of_listener(self.status, running.pulse, len(self.tables), running.captured.count),
            *of_delivery(running.hub, running.doors.places),
            *of_gate(self.gate),
            *of_handlers(running.dispatcher.tallies()),
        ]

    def tallies(self) -> list[Tally]:
        """How each handler of this process is doing."""
        running = self._alive()
        return [] if running is None else running.dispatcher.tallies()
