"""PGEvents: the decorators, and the blueprint that brings routes and listener into an app. And the default one."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from flask import Blueprint, Flask, current_app
from flask.blueprints import BlueprintSetupState
from sqlalchemy.orm import Session

from pgevents_push.callers import Callers
from pgevents_push.capture import Mode, resolve
from pgevents_push.config import Config
from pgevents_push.dropin import Callback, Pump
from pgevents_push.errors import ConfigurationError, NotRegisteredError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, ChangeType
from pgevents_push.extension import Database, Declarations, Runtime, moment, start_when_serving
from pgevents_push.handlers import When
from pgevents_push.inspector import add_inspector
from pgevents_push.registrar import ChangeTarget
from pgevents_push.routes import add_routes
from pgevents_push.transports.fragments import Position
from pgevents_push.transports.rights import Authorize, Impersonate

F = TypeVar("F", bound=Callable[[ChangeEvent], object])
C = TypeVar("C", bound=Callback)

_PACKAGE = Path(__file__).parent


class _Target:
    """`events.target(Order)` belongs to that instance, `PGEvents.target(Order)` to the default one."""

    def __get__(self, instance: PGEvents | None, owner: type[PGEvents]) -> Callable[[object], ChangeTarget]:
        return (instance or events).declarations.target


class _Blueprint(Blueprint):
    """A blueprint that is asked first whether it may be registered: Flask itself recommends `name=` where another
    one is, and then nobody would read this one's declarations."""

    check: Callable[[Flask], None]

    def register(self, app: Any, options: dict[str, Any]) -> None:
        self.check(app)
        super().register(app, options)


class PGEvents(Callers):
    """The events of one database: handlers, exposures, and a blueprint that brings them into apps.

    Most apps need only the default instance, whose methods the package exports. A second database takes a
    second instance: `PGEvents(config_prefix="AUDIT_PGEVENTS")`, with settings, blueprint name and URL prefix
    of its own.

    :param app: an app to register with at once.
    :param config_prefix: of the settings, in capitals; in lower case also the blueprint's name and URL prefix.
    :raises ConfigurationError: the prefix is not in capitals, or the app has another PGEvents of that name.
    """

    target = _Target()

    def __init__(self, app: Flask | None = None, *, config_prefix: str = "PGEVENTS") -> None:
        if not re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", config_prefix):
            raise ConfigurationError(f'config_prefix= is in capitals, like "AUDIT_PGEVENTS", not {config_prefix!r}.')
        self.config_prefix = config_prefix
        self.name = config_prefix.lower()
        self.declarations = Declarations(self._declared)
        self._pump = Pump()
        self._runtimes: weakref.WeakSet[Runtime] = weakref.WeakSet()
        self.blueprint: Blueprint = self._make_blueprint()
        if app is not None:
            self.init_app(app)

    def _make_blueprint(self) -> Blueprint:
        # Beside the package's code in a wheel; beside the package in a checkout or an editable install.
        static = next((p for p in (_PACKAGE / "static", _PACKAGE.parent / "static") if p.is_dir()), None)
        blueprint = _Blueprint(
            self.name, __name__, url_prefix=f"/{self.name}", static_folder=static, static_url_path="/static"
        )
        blueprint.check = self._check_alone
        blueprint.record(self._registered)
        add_routes(blueprint, self._current)
        add_inspector(blueprint, self._current)
        return blueprint

    def init_app(self, app: Flask) -> None:
        """Register the blueprint with an app: the same as `app.register_blueprint(events.blueprint)`."""
        app.register_blueprint(self.blueprint)

    def _check_alone(self, app: Flask) -> None:
        runtime = app.extensions.get("pgevents", {}).get(self.name)
        if runtime is not None and runtime not in self._runtimes:
            raise ConfigurationError(
                f"This app has another PGEvents called {self.name!r}. Use that one's on_insert, expose …, or give"
                f' this one a name and settings of its own: PGEvents(config_prefix="AUDIT_{self.config_prefix}").'
            )

    def _registered(self, state: BlueprintSetupState) -> None:
        app = cast(Flask, state.app)
        runtimes: dict[str, Runtime] = app.extensions.setdefault("pgevents", {})
        if self.name in runtimes:
            return  # the same blueprint under a second name or prefix: one listener serves both
        config = Config.from_mapping(app.config, self.config_prefix)
        runtime = Runtime(app, self.declarations, config, Database.of(app, config, self.config_prefix))
        runtimes[self.name] = runtime
        self._runtimes.add(runtime)
        app.before_request(runtime.on_request)
        if config.autostart:
            start_when_serving(runtime, app)
        self._pump.register(runtime)

    def _current(self) -> Runtime:
        return self.runtime(current_app)

    def runtime(self, app: Flask) -> Runtime:
        """Return what belongs to an app.

        :raises NotRegisteredError: this instance's blueprint is not registered with it.
        """
        runtime: Runtime | None = app.extensions.get("pgevents", {}).get(self.name)
        if runtime is None:
            raise NotRegisteredError(f"The blueprint {self.name!r} is not registered with the app {app.name!r}.")
        return runtime

    def _declared(self) -> None:
        for runtime in self._runtimes:
            runtime.declared()

    def start(self, app: Flask) -> None:
        """Listen in this process from now on; returns at once. For servers that give no sign of their own, such
        as a hand-written gevent.pywsgi script. Listening already: does nothing."""
        self.runtime(app).start()

    def stop(self, app: Flask) -> None:
        """End this process's streams with a `bye`, its handlers and its listener. Not listening: does nothing."""
        self.runtime(app).stop()

    # --- Handlers

    def on_change(
        self,
        target: object,
        *,
        types: Iterable[ChangeType] = CHANGE_TYPES,
        columns: Sequence[str] | None = None,
        when: When | None = None,
        capture: Mode | None = None,
    ) -> Callable[[F], F]:
        """Call the decorated function for each committed change of a table, whichever program made it.

        It runs in every process that serves the app, in order, in an app context of its own.

        :param target: a model class, a Table, or "schema.table"; the table may be created later.
        :param types: "insert", "update", "delete", "truncate". Defaults to all.
        :param columns: for updates: only when one of these really changed.
        :param when: only when this function says so of the event.
        :param capture: how the table is captured: "row", each row by itself (the default); "statement", all rows of a
            statement at once, faster in bulk; "key", the key only, for large or secret rows. See capture/README.md.
        :raises ConfigurationError: the target is no table, it has no such column, or somebody declared it with another
            `capture`.
        """

        resolve(target)  # at once: of a bare `@on_insert` nothing more would be heard

        def decorate(function: F) -> F:
            self.declarations.handle(function, target, types, columns, when, capture)
            return function

        return decorate

    def on_insert(self, target: object, *, when: When | None = None, capture: Mode | None = None) -> Callable[[F], F]:
        """Like `on_change`, for inserted rows."""
        return self.on_change(target, types=("insert",), when=when)

    def on_update(
        self, target: object, *, columns: Sequence[str] | None = None, when: When | None = None
    ) -> Callable[[F], F]:
        """Like `on_change`, for rows that an UPDATE really changed."""
        return self.on_change(target, types=("update",), columns=columns, when=when)

    def on_delete(self, target: object, *, when: When | None = None, capture: Mode | None = None) -> Callable[[F], F]:
        """Like `on_change`, for deleted rows; `event.old` is the row."""
        return self.on_change(target, types=("delete",), when=when)

    def on_truncate(self, target: object, *, when: When | None = None, capture: Mode | None = None) -> Callable[[F], F]:
        """Like `on_change`, for TRUNCATE; the event has neither key nor row."""
        return self.on_change(target, types=("truncate",), when=when)

    # --- Browsers

    def expose(
        self,
        target: object,
        *,
        columns: Iterable[str] | None = None,
        exclude: Iterable[str] | None = None,
        public: bool = False,
        authorize: Authorize | None = None,
        rls: Impersonate | None = None,
        capture: Mode | None = None,
    ) -> None:
        """Let browsers stream a table. Without this no table is visible.

        :param columns: the only columns that leave the process; "*" for all, also those added later.
            Defaults to the columns that the model has now.
        :param exclude: instead of `columns`: all of the model's columns but these.
        :param public: everybody may stream it.
        :param authorize: a function that is asked for each subscription, in the subscriber's request context,
            with the SubscriptionRequest; it returns True, False, or a SQLAlchemy expression over the table's columns
            that tells which rows; or it aborts with 401 or 403.
        :param rls: a function that is asked likewise, and returns as whom PostgreSQL's row-level security is to be
            asked about each row: {"role": "web_user", "settings": {"app.user": "7"}}. With `authorize` both must
            let a row through.
        :param capture: as in `on_change`. With "key" clients get keys alone, and nothing else can be compared.
        :raises ExposureError: neither `public` nor `authorize` nor `rls`, `public` with one of these, an unknown
            column, exposed already, or more than the key where only that is captured.
        :raises ConfigurationError: somebody declared it with another `capture`.
        """
        self.declarations.expose(target, columns, exclude, public, authorize, rls, capture)

    def fragment(
        self,
        source: object,
        *,
        template: str,
        target: str,
        position: Position = "beforeend",
        dom_id: str | None = None,
        per_identity: bool = False,
    ) -> None:
        """Let `format=html` and `format=turbo` send a table's changes as elements of a page, made with the partial that
        the page itself is made with.

        It is rendered once for each change, for all who see the same columns: in a request of nobody, in which
        `url_for` works and `current_user` is nobody. The partial gets `row` (a dict of the visible columns, as JSON has
        them), `pk`, `change` and `dom_id`.

        :param source: a model class, a Table, or "schema.table"; expose() it as well.
        :param template: the partial: one root element, whose id is `dom_id`.
        :param target: the CSS selector of the element that holds the rows: "#orders".
        :param position: where new rows go in it: "beforeend" (the default) or "afterbegin".
        :param dom_id: the id of a row's element, as a format string of key columns: "order-{id}". Defaults to the
            table's name and the key: "orders-7", "lines-7-A"; if one of several values has a hyphen, "lines-7-A_-B".
        :param per_identity: the partial also gets `identity`, the text that `identify` gives of who sees it, and is
            rendered once for each of them.
        :raises ExposureError: a wrong argument, or the table has a fragment already.
        """
        self.declarations.fragment(source, template, target, position, dom_id, per_identity)

    def cursor(self, connection: sa.Connection | Session) -> str:
        """Return the position of what a connection sees, for a page that is rendered with rows: with
        `lastEventId={{ cursor }}` its stream sends each change after them, and none that they have in them.

        :param connection: a session or connection, in a transaction that is REPEATABLE READ.
        :raises ConfigurationError: it is not.
        """
        return moment(connection)

    # --- The manual way of flask-sqlalchemy-pgevents

    def listen(self, target: object, identifiers: Collection[str], fn: Callback) -> None:
        """Register a function for `handle_events`, as in flask-sqlalchemy-pgevents.

        :param identifiers: a set of "insert", "update", "delete".
        :param fn: called with the event's UUID, the row's key, and "INSERT", "UPDATE" or "DELETE".
        :raises TargetError: (a ValueError) no identifier, an unknown one, or the target is no table.
        """
        self._pump.check(target, identifiers)
        self.declarations.capture(target)
        self._pump.listen(target, identifiers, fn)

    def listens_for(self, target: object, identifiers: Collection[str]) -> Callable[[C], C]:
        """The decorator form of `listen`."""

        def decorate(fn: C) -> C:
            self.listen(target, identifiers, fn)
            return fn

        return decorate

    def handle_events(self, timeout: float = 0.0) -> None:
        """Call the functions of `listen` for all that was committed since the last call.

        :param timeout: seconds to wait when nothing was. Defaults to 0: do not wait.
        :raises NotRegisteredError: (a RuntimeError) there is no app yet.
        """
        self._pump.handle_events(timeout)

    def teardown(self) -> None:
        """Close the connection of `handle_events`. Not open: does nothing."""
        self._pump.close()


events: PGEvents = PGEvents()
