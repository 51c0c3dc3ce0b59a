"""Ledger: what all processes must know of identities and tickets, written into the database that they share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from pgevents_push.errors import ConnectionLost
from pgevents_push.event import ChangeEvent, TableName
from pgevents_push.listener import Connection
from pgevents_push.sql import statement

# As which change a revocation comes through the log: see capture/sql/revoke.sql.
REVOKED = TableName("pgevents", "revoked")

_LATELY_REVOKED = statement(__package__, "lately_revoked.sql")
# Among so many changes those of the last seconds are looked for: 10 ms.
NEWEST = 10_000


class Ledger:
    """Writes and asks, one after the other, on a connection that is opened when it is first needed and then kept.

    :param connect: opens a connection to the database.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._closed = False

    def revoke(self, identity: str) -> None:
        """Tell all processes to end the streams of an identity.

        :raises ConnectionLost: the database is away, or does not let us.
        """
        self._ask("SELECT pgevents.revoke_v1(%s)", identity)

    def lately_revoked(self, seconds: float) -> list[str]:
        """Return the identities that were revoked in the last seconds. That is asked once, so not on the connection
        that is kept.

        :raises ConnectionLost: the database is away.
        """
        connection = self._connect()
        try:
            rows = connection.execute(_LATELY_REVOKED, {"seconds": seconds, "newest": NEWEST})
        finally:
            connection.close()
        return [str(name) for (name,) in rows]

    def spend(self, number: str) -> bool:
        """Note a ticket's number; False when it was noted before, here or elsewhere.

        :raises ConnectionLost: the database is away, or does not let us.
        """
        [(fresh,)] = self._ask("SELECT pgevents.spend_v1(%s)", number)
        return bool(fresh)

    def close(self) -> None:
        """Close the connection; one that is in use when its answer is there. None is open: does nothing."""
        self._closed = True
        if self._turn.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._turn.release()

    def _ask(self, statement: str, value: str) -> list[tuple[Any, ...]]:
        with self._turn:
            if self._connection is not None:
                try:
                    return self._connection.execute(statement, [value])
                except ConnectionLost:  # it may have died while it waited: once more, on a new one
                    self._drop()
            self._connection = self._connect()
            try:
                return self._connection.execute(statement, [value])
            except ConnectionLost:
                self._drop()
                raise
            finally:
                if self._closed:
                    self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def revoked(events: Iterable[ChangeEvent]) -> list[str]:
    """Return the identities that are revoked among these changes."""
    return [str(e.pk["identity"]) for e in events if e.schema == REVOKED.schema and e.table == REVOKED.name]
