"""Which database an app's events come from: one URL, checked at registration, turned into libpq's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from flask import Flask

from pgevents_push.capture import Target
from pgevents_push.config import Config
from pgevents_push.errors import ConfigurationError, DatabaseError
from pgevents_push.listener import libpq_parameters

# What drivers take beside libpq's parameters: psycopg2's classes, which change how rows look, and psycopg's options.
_NOT_LIBPQ = {
    "async", "async_", "autocommit", "connection_factory", "context", "cursor_factory", "prepare_threshold",
    "row_factory",
}  # fmt: skip


@dataclass(frozen=True)
class Database:
    """The database of one app.

    :param dsn: the same as libpq's connection parameters.
    :param prefix: of the settings that it came from; named in messages.
    """

    url: sa.URL
    dsn: Mapping[str, Any] = field(repr=False)  # holds the password
    prefix: str

    @classmethod
    def of(cls, app: Flask, config: Config, prefix: str) -> Database:
        """Find the database: the setting, else Flask-SQLAlchemy's default engine.

        :raises DatabaseError: there is none, or it is not PostgreSQL.
        """
        default, arguments = _default(app)
        text = config.database_url or default
        if text is None:
            raise DatabaseError(
                "No database is configured. Set SQLALCHEMY_DATABASE_URI before registering the blueprint, "
                f"or {prefix}_DATABASE_URL."
            )
        url = _parse(text)
        if url.get_backend_name() == "postgres":
            raise DatabaseError("SQLAlchemy does not know postgres://: write postgresql+psycopg2://")
        if url.get_backend_name() != "postgresql":
            raise DatabaseError(
                f"pgevents_push needs PostgreSQL, but the database is {url.get_backend_name()}. "
                f"Set {prefix}_DATABASE_URL, or register the blueprint only where PostgreSQL is configured."
            )
        own = default is not None and _same(url, _parse(default))
        return cls(url, libpq_parameters(url) | (arguments if own else {}), prefix)

    def check(self, target: Target, app: Flask) -> None:
        """Make sure that a model's table lives in this database.

        :raises ConfigurationError: it is bound to another one.
        """
        key = _bind_key(target)
        if key is None:
            return
        bind = app.config.get("SQLALCHEMY_BINDS", {}).get(key)
        bound = bind.get("url") if isinstance(bind, Mapping) else bind
        if bound is None or not _same(self.url, _parse(bound)):
            raise ConfigurationError(
                f"{target.name} is bound to the database {key!r}, not to that of {self.prefix}_DATABASE_URL. "
                f'Give it a PGEvents of its own: PGEvents(config_prefix="{key.upper()}_PGEVENTS"), '
                f"with {key.upper()}_PGEVENTS_DATABASE_URL set."
            )

    def is_at(self, url: sa.URL) -> bool:
        """Whether an engine with this URL talks to this database."""
        return _same(self.url, url)


def _bind_key(target: Target) -> str | None:
    """Flask-SQLAlchemy's name of the database that a model belongs to; None for the default one."""
    return None if target.model is None else sa.inspect(target.model).local_table.metadata.info.get("bind_key")


def _default(app: Flask) -> tuple[str | sa.URL | None, dict[str, Any]]:
    extension = app.extensions.get("sqlalchemy")
    options = app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}
    given = dict(options.get("connect_args") or {})
    arguments = {name: value for name, value in given.items() if name not in _NOT_LIBPQ}
    if extension is not None:
        with app.app_context():
            engine = extension.engines.get(None)
        return (None if engine is None else engine.url), arguments
    return app.config.get("SQLALCHEMY_DATABASE_URI"), arguments


def _parse(text: str | sa.URL) -> sa.URL:
    try:
        return sa.make_url(text)
    except sa.exc.ArgumentError:
        # Its own message would print the URL, and with it the password.
        raise DatabaseError("The database URL cannot be read: postgresql+psycopg2://user:password@host/name") from None


def _same(one: sa.URL, other: sa.URL) -> bool:
    def place(url: sa.URL) -> tuple[Any, ...]:
        return (url.host or url.query.get("host"), url.port or url.query.get("port") or 5432, url.database)

    return place(one) == place(other)
