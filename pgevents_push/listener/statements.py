"""The SQL of this room: one statement a file, sent without its comments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pgevents_push import sql

_PARAMETER = re.compile(r"%\((\w+)\)s(?:\)::([a-z0-9]+(?:\[\])?))?")


class Prepared(str):
    """A statement that is run often: where the session is ours alone PostgreSQL plans it once. Planning `since.sql`,
    whose table has a partition for each slot, takes twice as long as running it (650 of 980 us)."""

    name: str

    @cached_property
    def command(self) -> str:
        """What prepares it."""
        text: str = self
        for number, name in enumerate(self._parameters, 1):
            text = text.replace(f"%({name})s", f"${number}")
        return f"PREPARE {self.name} AS {text}"

    @cached_property
    def call(self) -> str:
        """What runs it then, with the same parameters."""
        arguments = (f"%({name})s" + (f"::{kind}" if kind else "") for name, kind in self._parameters.items())
        return f"EXECUTE {self.name}({', '.join(arguments)})"

    def filled(self, parameters: Mapping[str, Any]) -> str | None:
        """Return `call` with its parameters written into it, where all are numbers: psycopg2 takes 12 us for four.
        None: there are others."""
        literals = {name: _literal(value) for name, value in parameters.items()}
        return None if None in literals.values() else self.call % literals

    @property
    def _parameters(self) -> dict[str, str]:
        """The names in order, with the types that they are cast to."""
        return dict(_PARAMETER.findall(self))


def _literal(value: Any) -> str | None:
    """Write a number, a text of digits, or a list of such texts."""
    if isinstance(value, list):
        return f"'{{{','.join(value)}}}'" if all(map(_is_number, value)) else None
    return f"'{value}'" if isinstance(value, int) or _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit()


def prepared(file: str, name: str | None = None, **parts: str) -> Prepared:
    """Return the statement in sql/`file`, to be prepared.

    :param name: when the file is not to name it.
    :param parts: see `statement`.
    """
    found = Prepared(statement(file, **parts))
    found.name = "pgevents_" + (name or file.removesuffix(".sql"))
    return found


def statement(name: str, **parts: str) -> str:
    """Return the statement in sql/`name` of this room.

    :param parts: what to put into its places, which are written as {part}.
    """
    text = sql.statement("pgevents_push.listener", name)
    for part, content in parts.items():
        text = text.replace(f"{{{part}}}", content)
    return text
