"""Callers: who they are, and how they are let in and shown out: what PGEvents offers an app for that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from flask import abort

from pgevents_push.capture import resolve
from pgevents_push.errors import ConfigurationError, RequestError
from pgevents_push.event import ChangeType
from pgevents_push.extension import Declarations, Runtime
from pgevents_push.transports.entrance import Identify

F = TypeVar("F", bound=Identify)


class Callers:
    """The part of PGEvents that knows callers by name."""

    declarations: Declarations

    def _current(self) -> Runtime:
        """The runtime of the current app."""
        raise NotImplementedError

    def identify(self, function: F) -> F:
        """Let a function say who a caller is; as a decorator, or called with it.

        It is asked for each connection, before `authorize` is, in the same request context. Its answer is what
        PGEVENTS_MAX_CONNECTIONS_PER_IDENTITY counts, what `revoke` takes, and `identity` of what `authorize` gets.

        :param function: takes nothing; returns a text that names the user, or None for somebody unknown.
        :raises ConfigurationError: another function was given before.
        """
        self.declarations.identify_with(function)
        return function

    def revoke(self, identity: str) -> None:
        """End all streams and sockets of an identity, in this process at once and in all others within a second; who
        comes back is authorised anew. Call it where somebody loses rights, after the commit.

        Other programs say the same with `SELECT pgevents.revoke_v1('…')`, best in the transaction that takes the
        rights away. Runs in an app context.

        :param identity: what `identify` returns.
        :raises ConnectionLost: the database is away: the other processes could not be told. Say it again later.
        """
        if not isinstance(identity, str) or not identity:
            raise ConfigurationError(f"revoke() takes the text that identify() returns, not {identity!r}.")
        self._current().revoke(identity)

    def ticket(
        self,
        *targets: object,
        columns: Iterable[str] | None = None,
        events: Iterable[ChangeType] | None = None,
        filter: str | None = None,
        identity: str | None = None,
    ) -> str:
        """Return a signed text that opens one connection, within 30 seconds: for a page that cannot send the headers
        that say who it is, as EventSource cannot. It goes into the URL: `…/stream?table=orders&ticket=…`.

        What `authorize` answers still counts; it finds the caller's name in `identity` of what it gets. Runs in a
        request context.

        :param targets: the tables that may be asked for with it, as `expose` takes them.
        :param columns: when given, the connection has to ask for just these; `events` and `filter` likewise.
        :param identity: whose it is. Defaults to what `identify` says of the current request; nobody: abort(401).
        :raises ConfigurationError: app.secret_key is not set, or there is no identity or no table.
        """
        runtime = self._current()
        query = {"table": [str(resolve(target, runtime.config.default_schema).name) for target in targets]}
        if columns is not None:
            query["columns"] = list(columns)
        if events is not None:
            query["events"] = list(events)
        if filter is not None:
            query["filter"] = [filter]
        return runtime.tickets.issue(identity or self._caller(runtime), query)

    def _caller(self, runtime: Runtime) -> str:
        if self.declarations.identify is None:
            raise ConfigurationError("ticket() wants to know for whom: declare identify(), or give identity=….")
        try:
            return runtime.identity() or abort(401)
        except RequestError as refused:
            abort(refused.status)
