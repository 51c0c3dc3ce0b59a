"""What the server does when an order changes, whoever changed it: here it writes a line into handler_log."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from sqlalchemy import delete

from demo.models import HandlerLog, Order, db
from pgevents_push import ChangeEvent, expose, on_delete, on_insert, on_truncate, on_update

KEPT_LINES = 500

ORDER_COLUMNS = ["id", "customer", "item", "quantity", "total", "status", "created_at"]
LOG_COLUMNS = ["id", "pid", "handler", "event_id", "change", "delay_ms", "at"]

expose(Order, columns=ORDER_COLUMNS, public=True)
expose(HandlerLog, columns=LOG_COLUMNS, public=True)


@on_insert(Order)
def order_came(event: ChangeEvent) -> None:
    row = event.row or {}
    _write_line("order_came", event, f"{row.get('customer')}, {row.get('item')}")


@on_update(Order, columns=["status"])
def status_changed(event: ChangeEvent) -> None:
    row, old = event.row or {}, event.old or {}
    _write_line("status_changed", event, f"{old.get('status')} → {row.get('status')}")


@on_delete(Order)
def order_gone(event: ChangeEvent) -> None:
    _write_line("order_gone", event, "deleted")


@on_truncate(Order)
def board_cleared(event: ChangeEvent) -> None:
    _write_line("board_cleared", event, "all orders removed")


def _write_line(handler: str, event: ChangeEvent, what: str) -> None:
    delay = datetime.now(timezone.utc) - event.at
    key = f"#{event.pk['id']} " if event.pk else ""
    line = HandlerLog(
        pid=os.getpid(),
        handler=handler,
        event_id=event.id,
        change=f"{key}{what}",
        delay_ms=round(delay.total_seconds() * 1000, 2),
    )
    db.session.add(line)
    db.session.flush()
    if line.id % 100 == 0:
        db.session.execute(delete(HandlerLog).where(HandlerLog.id <= line.id - KEPT_LINES))
    db.session.commit()
