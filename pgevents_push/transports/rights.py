"""Rights: what `authorize` is asked and what its answer means, and the filters of the caller, as one condition."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from werkzeug.exceptions import HTTPException

from pgevents_push.errors import BadParameter, Forbidden, RequestError, Unauthorized, UnsupportedCondition
from pgevents_push.event import ChangeType, TableName
from pgevents_push.hub import Definition, Persona
from pgevents_push.hub.condition import Condition, condition
from pgevents_push.hub.filters import parse_filters

log = logging.getLogger(__name__)

Transport = Literal["sse", "websocket", "snapshot"]

Define = Callable[[], Definition]


@dataclass(frozen=True)
class SubscriptionRequest:
    """What `authorize` is asked about. Who asks is in Flask's request; `identity` is what the app's `identify`
    function made of it, or what the ticket of a page says that cannot send headers."""

    table: TableName
    types: frozenset[ChangeType]
    columns: frozenset[str] | None
    transport: Transport
    _define: Define = field(compare=False, repr=False)
    identity: str | None = None

    @property
    def c(self) -> sa.ColumnCollection[str, sa.Column[Any]]:
        """The columns of the table as PostgreSQL has them, to answer with `subscription.c.owner_id == 7` where there
        is no model.

        :raises Unavailable: the database is away.
        """
        return self._define().c


Authorize = Callable[[SubscriptionRequest], object]
# The same for row-level security: {"role": "web_user", "settings": {"app.user": "7"}}; None or False: denied.
Impersonate = Callable[[SubscriptionRequest], object]


def ask(authorize: Authorize, asked: SubscriptionRequest, define: Define, counts: Counter[str]) -> Condition | None:
    """Ask who may see which rows, in the current request context; None: all of them.

    :param counts: where denials are counted, and what is wrong with the function.
    :raises Forbidden: it said no, failed, or gave an answer that nobody can judge rows by.
    :raises Unauthorized: it did abort(401).
    """
    answer = _answer("authorize", authorize, asked, counts)
    return None if answer is True else _condition(answer, asked.table, define, counts)


def impersonate(rls: Impersonate, asked: SubscriptionRequest, counts: Counter[str]) -> Persona:
    """Ask as whom PostgreSQL is to be asked, in the current request context.

    :raises Forbidden: as nobody; or the function failed, or gave an answer that means nothing.
    :raises Unauthorized: it did abort(401).
    """
    answer = _answer("rls", rls, asked, counts)
    try:
        return Persona.of(answer)
    except ValueError as error:
        counts["denied"] += 1
        log.error("rls= for %s returned %s: denied", asked.table, error)
        raise Forbidden from None


def _answer(name: str, function: Authorize, asked: SubscriptionRequest, counts: Counter[str]) -> object:
    """Return what the app's function says, unless that is no."""
    try:
        answer = function(asked)
    except RequestError:
        raise
    except HTTPException as error:
        counts["denied"] += 1
        raise (Unauthorized if error.code == 401 else Forbidden) from None
    except Exception:
        counts["authorize_failures"] += 1
        log.exception("%s for %s failed: denied", name, asked.table)
        raise Forbidden from None
    if answer is None or answer is False:
        counts["denied"] += 1
        raise Forbidden
    return answer


def _condition(answer: Any, table: TableName, define: Define, counts: Counter[str]) -> Condition:
    element = answer.__clause_element__() if hasattr(answer, "__clause_element__") else answer
    if not isinstance(element, sa.ColumnElement):
        counts["denied"] += 1
        kind = type(answer).__name__
        log.error("authorize for %s returned %s: denied. Return True, False or a SQLAlchemy expression", table, kind)
        raise Forbidden
    definition = define()
    try:
        return condition(element, definition.columns)
    except UnsupportedCondition as error:
        counts["unsupported_rights"] += 1
        remedy = _KEY_REMEDY if definition.key_only else _REMEDY
        log.error("authorize for %s cannot be judged on changes: denied. %s %s", table, error, remedy)
        raise Forbidden from None


_REMEDY = (
    "Look up in authorize what it needs and compare columns with values: Order.team_id.in_(ids). See the README, "
    '"Who may see what".'
)

_KEY_REMEDY = 'It is captured with capture="key", so only columns of its key can be compared.'


def wanted(filters: Iterable[str], exposed: frozenset[str] | None, define: Define) -> Condition | None:
    """Read the caller's filters, which a row must pass all; None when there is none. A column that is not exposed does
    not exist here.

    :raises BadParameter: names the column, the operator or the value.
    """
    texts = list(filters)
    if not texts:
        return None
    definition = define()
    visible = {name: column for name, column in definition.columns.items() if exposed is None or name in exposed}
    try:
        return condition(parse_filters(texts, visible), visible)
    except BadParameter as error:
        if not definition.key_only:
            raise
        raise BadParameter(f"{error} Of this table only the key is captured.") from None
