"""Picture: the state of this process and of its triggers as plain values, for people."""

from __future__ import annotations

import os
from typing import Any

from pgevents_push import waiting
from pgevents_push.capture import Status
from pgevents_push.errors import PGEventsError
from pgevents_push.event import TableName
from pgevents_push.extension import Runtime
from pgevents_push.hub import Stay, View


def picture(runtime: Runtime) -> dict[str, Any]:
    """Return what the inspector's page shows beside the changes. Names tables, columns and handlers, but no row."""
    status, error = _status(runtime)
    stays = runtime.hub.stays()
    return {
        "process": {
            "pid": os.getpid(),
            "app": runtime.app.name,
            "default_schema": runtime.config.default_schema,
        },
        "listener": {**runtime.report(), "cursor": runtime.hub.cursor, "error": error},
        "counts": dict(runtime.hub.counts),
        "tables": [_table(runtime, table, status, stays) for table in runtime.tables],
        "streams": [_stream(stay) for stay in stays],
        "handlers": [
            {"name": tally.handler, "last_error": tally.last_error, **tally.counts} for tally in runtime.tallies()
        ],
    }


def _status(runtime: Runtime) -> tuple[Status | None, str | None]:
    try:
        return waiting.run_blocking(lambda: runtime.installer().status(runtime.tables)), None
    except PGEventsError as error:
        return None, str(error)


def _table(runtime: Runtime, table: TableName, status: Status | None, stays: list[Stay]) -> dict[str, Any]:
    exposure = runtime.gate.exposure(table)
    columns = None if exposure is None else exposure.columns
    return {
        "name": table.asked(runtime.config.default_schema),
        "trigger": "unknown" if status is None else status.tables.get(table, "unknown"),
        "reason": None if status is None else status.refused.get(table),
        "exposed": exposure is not None,
        "public": exposure is not None and exposure.authorize is None,
        "columns": None if columns is None else sorted(columns),
        "streams": sum(any(view.table == table for view in stay.views) for stay in stays),
        "handlers": sum(handler.target.name == table for handler in runtime.handlers()),
    }


def _stream(stay: Stay) -> dict[str, Any]:
    return {
        "seconds": round(stay.seconds),
        "queued_bytes": stay.queued_bytes,
        "views": [_view(view) for view in stay.views],
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "table": str(view.table),
        "types": sorted(view.types),
        "columns": None if view.columns is None else sorted(view.columns),
        "restricted": view.condition is not None,
        "ref": view.label,
    }
