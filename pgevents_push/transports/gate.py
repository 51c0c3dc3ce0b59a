"""The gate: what is exposed, and may this caller see it? Closed by default."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from werkzeug.exceptions import HTTPException

from pgevents_push.errors import BadParameter, ExposureError, Forbidden, NotExposed, TargetError, Unauthorized
from pgevents_push.event import ChangeType, TableName
from pgevents_push.transports.request import TableRequest

log = logging.getLogger(__name__)

Transport = Literal["sse", "websocket"]


@dataclass(frozen=True)
class SubscriptionRequest:
    """What `authorize` is asked about: who asks is in Flask's request."""

    table: TableName
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    transport: Transport


Authorize = Callable[[SubscriptionRequest], object]


@dataclass(frozen=True)
class Exposure:
    """A table that browsers may stream: its visible columns (None: all), and who may (None: everybody)."""

    table: TableName
    columns: frozenset[str] | None
    authorize: Authorize | None


@dataclass(frozen=True)
class Opened:
    """What the gate let through."""

    table: TableName
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    exposed: frozenset[str] | None


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


class Gate:
    """The exposures of one app, and the answer to who may stream them.

    :param default_schema: the schema of a table that a client names without one.
    """

    def __init__(self, exposures: Iterable[Exposure], default_schema: str) -> None:
        self._default_schema = default_schema
        self._exposures = {exposure.table: exposure for exposure in exposures}
        self.counts: Counter[str] = Counter()
        self._told: set[str] = set()

    def open(self, request: TableRequest, transport: Transport) -> Opened:
        """Let a request through; runs `authorize` in the current request context.

        :raises NotExposed: hidden and unknown tables alike.
        :raises BadParameter: a column that is not exposed, known or not.
        :raises Forbidden: `authorize` said no, or failed.
        :raises Unauthorized: `authorize` did abort(401).
        """
        exposure = self._find(request.table)
        columns = self._columns(exposure, request)
        if exposure.authorize is not None:
            asked = SubscriptionRequest(exposure.table, request.types, columns, transport)
            self._ask(exposure.authorize, asked)
        return Opened(exposure.table, request.types, columns, exposure.columns)

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

    def _columns(self, exposure: Exposure, request: TableRequest) -> frozenset[str] | None:
        if request.columns is None or exposure.columns is None:
            return request.columns or exposure.columns
        if hidden := request.columns - exposure.columns:
            raise BadParameter(f"columns: {min(hidden)[:80]!r} is not exposed.")
        return request.columns

    def _ask(self, authorize: Authorize, asked: SubscriptionRequest) -> None:
        try:
            answer = authorize(asked)
        except HTTPException as error:
            self.counts["denied"] += 1
            raise (Unauthorized if error.code == 401 else Forbidden) from None
        except Exception:
            self.counts["authorize_failures"] += 1
            log.exception("authorize for %s failed: denied", asked.table)
            raise Forbidden from None
        if answer is True:
            return
        self.counts["denied"] += 1
        if answer is not False and answer is not None:
            # A SQLAlchemy expression has a truth value of its own, which says nothing about rights.
            log.error("authorize for %s returned %s, not True or False: denied", asked.table, type(answer).__name__)
        raise Forbidden
