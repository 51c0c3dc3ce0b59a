"""Running: what exists only while a process listens, and how the parts hand on to each other."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from pgevents_push import waiting
from pgevents_push.event import TableName
from pgevents_push.extension.captured import Captured
from pgevents_push.extension.definitions import Definitions
from pgevents_push.extension.judging import Judging
from pgevents_push.extension.publishing import Publisher
from pgevents_push.extension.replay import Replay
from pgevents_push.extension.snapshots import Snapshots
from pgevents_push.handlers import Dispatcher
from pgevents_push.hub import Hub
from pgevents_push.listener import Batch, Ears, Listener, Pruner, Pulse
from pgevents_push.transports.handover import Exchange
from pgevents_push.transports.switchboard import Switchboard

if TYPE_CHECKING:
    from pgevents_push.extension.runtime import Runtime

log = logging.getLogger(__name__)


class Running:
    """The parts of one app in one process, made when it begins to listen. Starting and stopping them is Runtime's."""

    def __init__(self, runtime: Runtime) -> None:
        config = runtime.config
        self.pid = os.getpid()
        self._runtime = runtime
        self.definitions = Definitions(runtime.connect)
        self.judging = Judging(runtime.connect)
        self.hub = Hub(config.history_bytes, self.definitions.forget, self.judging)
        self.replay = Replay(
            self.hub, runtime.connect, config.max_batch_events, config.history_bytes // 4, runtime.gate.shows
        )
        limits = (config.max_snapshots, config.snapshot_seconds, config.max_row_bytes)
        self.snapshots = Snapshots(runtime.connect, self.hub.reach, *limits)
        self.doors = runtime.make_doors()
        self.exchange: Exchange | None = None
        if config.handover and waiting.can_hand_over():
            self.exchange = Exchange(Switchboard(self.hub, config))
        self.publisher = Publisher(self.hub, self.exchange, config.max_queue_bytes)
        self.dispatcher = Dispatcher(runtime.app, runtime.handlers, config.handler_queue_events)
        self.captured = Captured(runtime.installer(), config, lambda: runtime.tables, self.hub.capture, self._lose)
        self.pruner = Pruner(runtime.database.dsn, config.retention_seconds, config.connect_timeout_seconds)
        self.pulse = Pulse(runtime.listener_changed)
        ears = Ears(
            dsn=runtime.database.dsn,
            prepare=self._prepare,
            on_batch=self._take,
            on_lost=self._lose,
            on_round=self._look,
            watched=self._is_shown,
            poll_seconds=config.poll_seconds,
            heartbeat_seconds=config.heartbeat_seconds,
            timeout_seconds=config.connect_timeout_seconds,
            max_batch_events=config.max_batch_events,
            wakeup=config.wakeup,
        )
        self.listener = Listener(ears, self.pulse)

    def _is_shown(self, table: TableName) -> bool:
        return self._runtime.gate.shows(table)

    def _prepare(self) -> None:
        self.captured.prepare()
        self.definitions.learn(self._runtime.gate.exposed)

    def _lose(self) -> None:
        self.definitions.forget_all()  # before those come back who are sent away
        self.replay.forget()
        self.hub.lose()

    def _look(self) -> None:
        self.captured.look()
        self.pruner.look()

    def _take(self, batch: Batch) -> None:
        self.doors.hear(batch.events, first=self.hub.cursor is None)
        for event in batch.events:
            if event.type == "gap":  # streams are told; handlers have nobody else to tell them
                log.error("changes of %s may have been missed, or their order is not known", event.table_name)
        self.publisher.publish(batch)
        self.dispatcher.dispatch(batch.events)
