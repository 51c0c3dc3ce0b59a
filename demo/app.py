"""The app: one database, one blueprint of ours, one line for pgevents_push."""

from __future__ import annotations

import os

from flask import Flask, Response
from werkzeug.middleware.proxy_fix import ProxyFix

from demo import handlers  # noqa: F401  declares what is exposed and handled
from demo.models import db
from demo.pages import pages
from demo.recipes import recipes
from pgevents_push import pgevents_bp

# No inline script or style, no other host: what the page needs comes from here.
CONTENT_SECURITY_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def create_app() -> Flask:
    """Build the app for the database in the environment variable DATABASE_URL."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url()
    # psycopg2 makes no room for other greenlets while it waits for a row's lock, so it must not wait long.
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_pre_ping": True,
        "connect_args": {"options": "-c lock_timeout=500ms", "application_name": "demo"},
    }
    app.config["DEMO_PSQL"] = os.environ.get("DEMO_PSQL", "psql")
    db.init_app(app)
    app.register_blueprint(pgevents_bp)
    app.register_blueprint(pages)
    app.register_blueprint(recipes)
    app.after_request(_add_headers)
    if proxies := int(os.environ.get("DEMO_PROXIES", "0")):
        # Who calls, and from where, is what our outermost proxy saw: limits and the Origin check need it.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)  # type: ignore[method-assign]
    return app


def database_url() -> str:
    """Return DATABASE_URL with the driver named: SQLAlchemy would look for another one."""
    url = os.environ.get("DATABASE_URL", "postgresql:///postgres")
    scheme, rest = url.split("://", 1)
    return f"postgresql+psycopg2://{rest}" if scheme in ("postgres", "postgresql") else url


def _add_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
