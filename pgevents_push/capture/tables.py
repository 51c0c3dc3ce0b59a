"""What the application calls a table, as the exact name that PostgreSQL knows; and how names are written in SQL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, inspect
from sqlalchemy.orm import Mapper

from pgevents_push.errors import TargetError
from pgevents_push.event import TableName

# Written so that no driver, and no dollar quote around it, takes them for something else.
_ESCAPED = {"\\": "\\\\", "%": "\\x25", "$": "\\x24"}


@dataclass(frozen=True)
class Target:
    """A table that somebody named. `model`, `columns` and `key` (their names in the database) are None when it was a
    string."""

    name: TableName
    model: type | None = None
    columns: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None


def resolve(target: Any, default_schema: str = "public") -> Target:
    """Tell which table a model class, a Table, a TableName or a "schema.table" string means.

    :param default_schema: the schema of tables named without one.
    :raises TargetError: it is none of these.
    """
    if isinstance(target, TableName):
        return Target(target)
    if isinstance(target, str):
        return Target(TableName.parse(target, default_schema))
    if isinstance(target, Table):
        return _of_table(target, None, default_schema)
    if isinstance(target, type):
        return _of_model(target, default_schema)
    raise TargetError(f'{_shown(target)} is not a table: name a model class, a Table or a "schema.table" string.')


def _of_model(model: type, default_schema: str) -> Target:
    mapper: Any = inspect(model, raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise TargetError(f"{_shown(model)} is not a mapped class: has it a __tablename__, or is it abstract?")
    # With joined inheritance this is the class's own table, with single-table inheritance its parent's.
    table = mapper.local_table
    if not isinstance(table, Table):
        raise TargetError(f"{_shown(model)} is mapped to a query, not to a table: name the tables below it.")
    return _of_table(table, model, default_schema)


def _of_table(table: Table, model: type | None, default_schema: str) -> Target:
    schema = table.schema or table.metadata.schema or default_schema
    columns, key = (tuple(column.name for column in each) for each in (table.columns, table.primary_key))
    return Target(TableName(str(schema), str(table.name)), model, columns, key)


def _shown(thing: object) -> str:
    name = thing.__qualname__ if isinstance(thing, type) else repr(thing)[:200]
    return f"{name} ({type(thing).__name__})" if not isinstance(thing, type) else f"class {name}"


def quote(identifier: str) -> str:
    """Write a name for SQL: always quoted, so key words and capitals need no thought.

    :raises TargetError: no such name can exist.
    """
    return '"' + _checked(identifier).replace('"', '""') + '"'


def quoted(name: TableName) -> str:
    """Write the name of a table for SQL, with its schema."""
    return f"{quote(name.schema)}.{quote(name.name)}"


def literal(text: str) -> str:
    """Write a text for SQL, also within DO $...$ and for drivers that give `%` a meaning.

    :raises TargetError: PostgreSQL cannot hold this text.
    """
    escaped = re.sub(r"[\\%$]", lambda match: _ESCAPED[match.group()], _checked(text).replace("'", "''"))
    return f"E'{escaped}'" if "\\" in escaped else f"'{escaped}'"


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TargetError(f"{text[:200]!r} is no name: it is not valid Unicode.") from None
    if not text or "\0" in text:
        raise TargetError(f"{text[:200]!r} is no name: it is empty or holds a zero character.")
    return text
