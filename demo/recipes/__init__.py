"""Recipes: one small page for each way to show a table live, below /recipes/ of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from flask import Blueprint, Response, abort, render_template, send_from_directory
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from demo.models import Order, db
from pgevents_push import events, fragment

MOST_ORDERS = 500
PACKAGES = Path(__file__).parent / "node_modules"
COLUMNS = ("id", "customer", "item", "quantity", "status")


class Recipe(NamedTuple):
    """A page: what it is, and which npm package it needs."""

    title: str
    package: str | None = None


RECIPES = {
    "eventsource": Recipe("EventSource, nothing else"),
    "pgevents": Recipe("pgevents.js: a live table"),
    "websocket": Recipe("WebSocket, nothing else"),
    "htmx2": Recipe("htmx 2", "htmx2"),
    "htmx4": Recipe("htmx 4", "htmx.org"),
    "turbo": Recipe("Turbo", "@hotwired/turbo"),
    "react": Recipe("React", "react"),
    "tanstack": Recipe("TanStack Query: changes make its cache stale", "@tanstack/query-core"),
}

recipes = Blueprint("recipes", __name__, url_prefix="/recipes", template_folder="templates", static_folder="static")
fragment(Order, template="recipes/_order.html", target="#orders")


@recipes.after_request
def allow_inline(response: Response) -> Response:
    """Each recipe is whole in one file, with its script in it."""
    response.headers["Content-Security-Policy"] = "default-src 'self' 'unsafe-inline'"
    return response


@recipes.get("/")
def index() -> ResponseReturnValue:
    return render_template("recipes/index.html", recipes=RECIPES, installed=PACKAGES.is_dir())


@recipes.get("/<name>")
def page(name: str) -> ResponseReturnValue:
    """Show a recipe. The rows and the cursor are of one moment: the stream goes on after exactly these rows."""
    recipe = RECIPES.get(name) or abort(404)
    if recipe.package is not None and not (PACKAGES / recipe.package).is_dir():
        return render_template("recipes/missing.html", recipe=recipe), 503
    orders, cursor = present_orders()
    return render_template(f"recipes/{name}.html", recipe=recipe, orders=orders, cursor=cursor)


@recipes.get("/orders.json")
def orders_json() -> ResponseReturnValue:
    return {"rows": present_orders()[0]}


def present_orders() -> tuple[list[dict[str, Any]], str]:
    """Return the rows, and the cursor of the moment that they are of."""
    db.session.rollback()  # a transaction that has read already cannot change its level
    db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    found = db.session.scalars(select(Order).order_by(Order.id).limit(MOST_ORDERS))
    return [{name: getattr(order, name) for name in COLUMNS} for order in found], events.cursor(db.session())


@recipes.post("/orders")
def add() -> ResponseReturnValue:
    """Add an order. The answer 204 leaves the browser on its page; the stream brings the row."""
    db.session.add(Order(customer="Somebody", item="Rope", quantity=1))
    db.session.commit()
    return "", 204


@recipes.get("/packages/<path:path>")
def packages(path: str) -> ResponseReturnValue:
    return send_from_directory(PACKAGES, path)
