"""Tickets: let a page that cannot send headers prove once, within seconds, who it is and what it may ask for."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from pgevents_push.errors import BadParameter, ConfigurationError, Forbidden, TargetError, Unauthorized
from pgevents_push.event import TableName
from pgevents_push.transports.request import TableRequest, parse_stream

SECONDS = 30
PARAMETER = "ticket"
REFUSED = "This ticket is not valid, or not any more: get a new one for each connection."
_IN_A_QUERY = re.compile(rf"((?:^|[?&]){PARAMETER}=)[^&#]*")

Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Ticket:
    """Who was given it, and for which tables: with the types, columns and filters that were named then."""

    identity: str
    tables: tuple[TableRequest, ...]
    number: str
    default_schema: str

    def check(self, asked: TableRequest) -> None:
        """Make sure that it is good for this table.

        :raises Forbidden: it is for other tables, or for less of this one.
        """
        name = _name(asked.table, self.default_schema)
        granted = [table for table in self.tables if _name(table.table, self.default_schema) == name]
        if not any(_covers(table, asked) for table in granted):
            raise Forbidden("This ticket is for other tables, columns, events or filters than these.")


def _covers(granted: TableRequest, asked: TableRequest) -> bool:
    """Whatever was named for the ticket must be asked for in the same way; what was not is free."""
    free = parse_stream({"table": [granted.table]}, None, 1).tables[0]
    return all(
        getattr(granted, field.name) in (getattr(free, field.name), getattr(asked, field.name))
        for field in fields(TableRequest)
        if field.name != "table"
    )


def _name(table: str, default_schema: str) -> TableName | None:
    try:
        return TableName.parse(table, default_schema)
    except TargetError:
        return None


class Tickets:
    """Issues and reads the tickets of one app; that each is used once is somebody else's business.

    :param keys: what they are signed with; the last one signs, the others are still accepted.
    :param purpose: keeps those of two instances, and other things signed with the same key, apart.
    :param most: how many tables one may be for.
    """

    def __init__(self, keys: Sequence[str], purpose: str, default_schema: str, most: int) -> None:
        self._keys, self._purpose = list(keys), purpose
        self._default_schema, self._most = default_schema, most

    def issue(self, identity: str, query: Query) -> str:
        """Return a ticket as text.

        :raises ConfigurationError: the app has no key, or the query is none that a stream could have.
        """
        if not self._keys:
            raise ConfigurationError(
                "Tickets are signed with app.secret_key, which is not set: set it to a long secret."
            )
        try:
            parse_stream(query, None, self._most)
        except BadParameter as error:
            raise ConfigurationError(f"There can be no such ticket: {error}") from None
        return str(self._serializer().dumps([identity, dict(query), secrets.token_urlsafe(12)]))

    def read(self, text: str) -> Ticket:
        """Return what a ticket says; it may be spent already.

        :raises Unauthorized: it is none of ours, or too old.
        """
        try:
            if not self._keys:
                raise BadData("there is no key")
            identity, query, number = self._serializer().loads(text, max_age=SECONDS)
            tables = parse_stream(query, None, self._most).tables
        except (BadData, BadParameter, UnicodeError):
            raise Unauthorized(REFUSED) from None
        return Ticket(identity, tables, number, self._default_schema)

    def _serializer(self) -> URLSafeTimedSerializer:
        signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return URLSafeTimedSerializer(self._keys, salt=self._purpose, signer_kwargs=signer)


def forget(environ: dict[str, Any]) -> None:
    """Take the ticket out of what servers and error reporters log at the end of a request, where they let us."""
    for key in ("QUERY_STRING", "RAW_URI", "REQUEST_URI"):
        if PARAMETER in environ.get(key, ""):
            environ[key] = _IN_A_QUERY.sub(r"\1-", environ[key])
