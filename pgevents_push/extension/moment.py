"""The position of what a connection of the app sees: a page that is rendered with its rows goes live from there."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from pgevents_push.errors import ConfigurationError
from pgevents_push.listener import read_position


def moment(connection: sa.Connection | Session) -> str:
    """Return the cursor of the moment that all statements of the connection's transaction see.

    :raises ConfigurationError: they do not all see one moment.
    """
    level = connection.execute(sa.text("SHOW transaction_isolation")).scalar_one()
    if level not in ("repeatable read", "serializable"):
        raise ConfigurationError(
            f"cursor(): in {level} each statement sees another moment. Begin the transaction with"
            ' db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"}).'
        )

    def execute(sql: str, parameters: Any = None) -> list[Any]:
        return list(connection.execute(sa.text(sql), parameters))

    return str(read_position(execute))
