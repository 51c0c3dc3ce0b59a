"""The routes: the page, the present rows, the form's writes through SQLAlchemy, the other programs."""

from __future__ import annotations

import os
from decimal import Decimal
from itertools import pairwise
from typing import Any

from flask import Blueprint, abort, current_app, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm.exc import StaleDataError

from demo.handlers import LOG_COLUMNS, ORDER_COLUMNS
from demo.models import PRICES, STATUSES, HandlerLog, Order, db
from demo.writers import PROGRAMS, run

MOST_ORDERS = 500
MOST_LINES = 60

pages = Blueprint("pages", __name__)


@pages.before_app_request
def refuse_other_sites() -> None:
    """No other page that is open in the same browser may press our buttons."""
    origin = request.headers.get("Origin")
    if request.method != "GET" and origin and origin.split("://", 1)[-1] != request.host:
        abort(403)


@pages.errorhandler(OperationalError)
def locked(error: OperationalError) -> ResponseReturnValue:
    """Another program holds the row's lock, or the database is away: not our bug, so no traceback."""
    db.session.rollback()
    return str(error.orig), 503


@pages.get("/")
def board() -> ResponseReturnValue:
    return render_template(
        "board.html",
        statuses=STATUSES,
        prices=PRICES,
        programs=PROGRAMS,
        psql=current_app.config["DEMO_PSQL"],
        pid=os.getpid(),
    )


@pages.get("/orders.json")
def orders() -> ResponseReturnValue:
    return present_rows(Order, ORDER_COLUMNS, MOST_ORDERS)


@pages.get("/log.json")
def log() -> ResponseReturnValue:
    return present_rows(HandlerLog, LOG_COLUMNS, MOST_LINES)


def present_rows(model: type[Order] | type[HandlerLog], columns: list[str], most: int) -> ResponseReturnValue:
    """Answer with the newest rows and the snapshot in which they were read: what it contains, the page need
    not apply again when it comes as an event (demo/static/joined.js)."""
    connection = db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    snapshot = connection.scalar(select(func.pg_current_snapshot().cast(db.Text)))
    found = db.session.scalars(select(model).order_by(model.id.desc()).limit(most))
    rows = [{name: _plain(getattr(row, name)) for name in columns} for row in found]
    return jsonify(rows=rows, snapshot=snapshot)


def _plain(value: Any) -> Any:
    # As in events: a numeric of this size is a JSON number, a time is ISO 8601.
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


@pages.post("/orders")
def add() -> ResponseReturnValue:
    customer, item = request.form.get("customer", "").strip(), request.form.get("item", "")
    quantity = request.form.get("quantity", type=int) or 0
    if not 0 < len(customer) <= 40 or item not in PRICES or not 0 < quantity <= 999:
        abort(400)
    order = Order(customer=customer, item=item, quantity=quantity, total=PRICES[item] * quantity)
    db.session.add(order)
    db.session.commit()
    return jsonify(id=order.id), 201


@pages.post("/orders/<int:number>/advance")
def advance(number: int) -> ResponseReturnValue:
    """Move an order on from the status that the browser showed. Moved by somebody else already: 409."""
    order = db.session.get(Order, number, with_for_update=True) or abort(404)
    following = dict(pairwise(STATUSES))
    if order.status != request.form.get("status") or order.status not in following:
        abort(409)
    order.status = following[order.status]
    db.session.commit()
    return "", 204


@pages.post("/orders/<int:number>/delete")
def remove(number: int) -> ResponseReturnValue:
    """Delete an order. Gone already: does nothing."""
    order = db.session.get(Order, number)
    if order is not None:
        db.session.delete(order)
        try:
            db.session.commit()
        except StaleDataError:
            db.session.rollback()
    return "", 204


@pages.post("/programs/<name>")
def run_program(name: str) -> ResponseReturnValue:
    program = PROGRAMS.get(name) or abort(404)
    return jsonify(run(program, db.engine.url))


@pages.get("/favicon.ico")
def favicon() -> ResponseReturnValue:
    return current_app.send_static_file("favicon.svg")
