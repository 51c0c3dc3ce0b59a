"""The gate: what is exposed, and may this caller see it? Closed by default."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache

from pgevents_push.errors import (
    BadParameter,
    ConnectionLost,
    ExposureError,
    Forbidden,
    NotExposed,
    RowSecurityError,
    TargetError,
    Unavailable,
)
from pgevents_push.event import ChangeType, TableName
from pgevents_push.hub import Definition, Encode, Mark, Persona, View
from pgevents_push.hub.condition import Condition, both
from pgevents_push.transports import rights
from pgevents_push.transports.request import TableRequest
from pgevents_push.transports.rights import Authorize, Impersonate, SubscriptionRequest, Transport

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2


@dataclass(frozen=True)
class Exposure:
    """A table that browsers may stream: its visible columns (None: all), who may (None: everybody), and as whom
    PostgreSQL's row-level security is asked (None: not at all). `key_only`: no more than the key is captured, so
    nothing else is shown or compared, wherever it would come from."""

    table: TableName
    columns: frozenset[str] | None
    authorize: Authorize | None
    rls: Impersonate | None = None
    key_only: bool = False


@dataclass(frozen=True)
class Opened:
    """What the gate let through.

    :param condition: what a row must fulfil to be seen: filters and rights in one; None for all rows.
    :param mark: the columns that are shown and compared, as they are now; None: nobody can tell.
    :param persona: as whom PostgreSQL is asked besides which rows may be seen; None: not at all.
    """

    table: TableName
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    exposed: frozenset[str] | None
    condition: Condition | None = None
    mark: Mark | None = None
    persona: Persona | None = None

    def view(self, encode: Encode, label: str = "") -> View:
        """Return what a subscription sees of it."""
        shown = (self.table, self.types, self.columns, self.exposed)
        return View(*shown, encode, label, self.condition, self.mark, self.persona)


def visible_columns(
    table: TableName, known: Iterable[str] | None, columns: Iterable[str] | None, exclude: Iterable[str] | None
) -> frozenset[str] | None:
    """Return the columns that an exposure shows. Always a closed list, so that a column that is added later
    stays hidden, unless `columns="*"` asks for all.

    :param known: the columns of the model or Table; None for a table given by name.
    :raises ExposureError: `columns` and `exclude` together, an unknown column, or no list where one is needed.
    """
    if columns is not None and exclude is not None:
        raise ExposureError(f"expose({table}): give columns= or exclude=, not both.")
    if columns == "*":
        return None
    if any(isinstance(names, str) or not all(isinstance(n, str) for n in names or ()) for names in (columns, exclude)):
        raise ExposureError(f'expose({table}): columns= and exclude= take a list of names: ["id", "status"].')
    if known is None and columns is None:
        raise ExposureError(f'expose({table}): a table given by name needs columns=[…], or columns="*" for all.')
    named, every = frozenset(columns or exclude or ()), frozenset(known or columns or ())
    if unknown := named - every:
        raise ExposureError(
            f"expose({table}): no such column: {', '.join(sorted(unknown))}. There is: {', '.join(sorted(every))}."
        )
    return named if columns is not None else every - named


def _bounded(exposure: Exposure, key: Definition) -> Exposure:
    """Show nothing but the key."""
    visible = frozenset(key.columns)
    return replace(exposure, columns=visible if exposure.columns is None else visible & exposure.columns)


def _nobody_knows(table: TableName) -> Definition:
    raise ConnectionLost(f"Nobody can be asked about {table}.")


def _nobody_can(persona: Persona, table: TableName, columns: Iterable[str]) -> None:
    _nobody_knows(table)


class Gate:
    """The exposures of one app, and the answer to who may stream them.

    :param default_schema: the schema of a table that a client names without one.
    :param define: tells what PostgreSQL says of a table's columns; raises ConnectionLost when it is away.
    :param verify: makes sure that row-level security restricts a persona, and that it may read these columns; raises
        RowSecurityError when not.
    :param renew: the same as `define`, but knows of columns that were added a moment ago.
    """

    def __init__(
        self,
        exposures: Iterable[Exposure],
        default_schema: str,
        define: Callable[[TableName], Definition] = _nobody_knows,
        verify: Callable[[Persona, TableName, Iterable[str]], None] = _nobody_can,
        renew: Callable[[TableName], Definition] | None = None,
    ) -> None:
        self._default_schema = default_schema
        self._define, self._verify, self._renew = define, verify, renew or define
        self._exposures = {exposure.table: exposure for exposure in exposures}
        self.counts: Counter[str] = Counter()
        self._told: set[str] = set()

    def shows(self, table: TableName) -> bool:
        """Whether somebody may stream a table."""
        return table in self._exposures

    @property
    def exposed(self) -> list[TableName]:
        """The tables that somebody may stream."""
        return sorted(self._exposures)

    def exposure(self, table: TableName) -> Exposure | None:
        """How a table is exposed; None when it is not."""
        return self._exposures.get(table)

    def open(self, request: TableRequest, transport: Transport, identity: str | None = None) -> Opened:
        """Let a request through; runs `authorize` in the current request context.

        :raises NotExposed: hidden and unknown tables alike.
        :raises BadParameter: a column that is not exposed, known or not, or a bad filter.
        :raises Forbidden: `authorize` said no, or failed.
        :raises Unauthorized: `authorize` did abort(401).
        :raises Unavailable: rows are to be judged, and nobody can ask for the columns now.
        """
        exposure = self._find(request.table)
        define = cache(lambda: self._definition(exposure))
        if exposure.key_only:
            exposure = _bounded(exposure, define())
        columns = self._columns(exposure, request)
        asked = SubscriptionRequest(exposure.table, request.types, columns, transport, define, identity)
        may = None if exposure.authorize is None else rights.ask(exposure.authorize, asked, define, self.counts)
        persona = None if exposure.rls is None else self._persona(exposure, exposure.rls, asked)
        if exposure.columns is None and columns is not None:
            self._insist(exposure.table, columns)
        condition = both(may, rights.wanted(request.filters, exposure.columns, define))
        shown = (exposure.table, request.types, columns, exposure.columns)
        if condition is None and persona is None:
            return Opened(*shown, mark=self._mark(exposure))
        # A policy may read any column.
        every = exposure.columns is None or persona is not None
        compared = condition.columns if condition is not None else frozenset()
        mark = define().mark(None if every else (exposure.columns or frozenset()) | compared)
        return Opened(*shown, condition, mark, persona)

    def _persona(self, exposure: Exposure, rls: Impersonate, asked: SubscriptionRequest) -> Persona:
        persona = rights.impersonate(rls, asked, self.counts)
        columns = exposure.columns if exposure.columns is not None else self._definition(exposure).columns
        try:
            self._verify(persona, exposure.table, columns)
        except ConnectionLost:
            raise Unavailable("The database is away.", retry_after=RETRY_AFTER_SECONDS) from None
        except RowSecurityError as error:
            self.counts["unsupported_rights"] += 1
            log.error("rls= for %s: denied. %s", exposure.table, error)
            raise Forbidden from None
        return persona

    def _definition(self, exposure: Exposure) -> Definition:
        table = exposure.table
        try:
            definition = self._define(table)
        except ConnectionLost:
            raise Unavailable("The database is away.", retry_after=RETRY_AFTER_SECONDS) from None
        if not definition.columns:
            raise Unavailable(f"There is no table {table} yet.", retry_after=RETRY_AFTER_SECONDS)
        self._tell_absent(exposure, definition)
        return definition.of_key if exposure.key_only else definition

    def _mark(self, exposure: Exposure) -> Mark | None:
        """Who sees all rows need not wait for a database that is away, nor for a table that is to come."""
        try:
            return self._definition(exposure).mark(exposure.columns)
        except Unavailable:
            return None

    def _find(self, text: str) -> Exposure:
        try:
            return self._exposures[TableName.parse(text, self._default_schema)]
        except (KeyError, TargetError):
            self._tell_once(text)
            raise NotExposed from None

    def _tell_once(self, text: str) -> None:
        """For the developer who forgot it: the client is told nothing. Each name once, and not without end."""
        if text not in self._told and len(self._told) < 100:
            self._told.add(text)
            log.info("somebody asked for the table %.200r, which is not exposed: see expose()", text)

    def _tell_absent(self, exposure: Exposure, definition: Definition) -> None:
        """For the developer who mistyped a column of a table given by name, which nobody could check: else it would
        silently be nowhere."""
        if absent := sorted((exposure.columns or frozenset()) - frozenset(definition.columns)):
            text = f"expose({exposure.table}): PostgreSQL has no such column for triggers: {', '.join(absent)}."
            if text not in self._told:
                self._told.add(text)
                log.warning("%s There is: %s.", text, ", ".join(definition.columns))

    def _columns(self, exposure: Exposure, request: TableRequest) -> frozenset[str] | None:
        if request.columns is None or exposure.columns is None:
            return request.columns or exposure.columns
        _refuse(request.columns - exposure.columns)
        return request.columns

    def _insist(self, table: TableName, columns: frozenset[str]) -> None:
        """Make sure that a table of which all is exposed has these columns. Behind `authorize`: who may not see the
        table must not learn their names."""
        try:
            shape = self._define(table).shape
            if shape and not columns <= shape.keys():  # of a table that is not there, that was the newest word
                shape = self._renew(table).shape
        except ConnectionLost:
            return  # as in _mark
        if shape:
            _refuse(columns - shape.keys())


def _refuse(hidden: frozenset[str]) -> None:
    """One text for hidden and unknown columns."""
    if hidden:
        raise BadParameter(f"columns: {min(hidden)[:80]!r} is not exposed.")
