"""What is installed in a database, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pgevents_push.capture import render
from pgevents_push.capture.render import Modes, by_row
from pgevents_push.event import TableName

# Runs one statement without parameters; returns its rows, or None when it has none.
Execute = Callable[[str], Sequence[Any] | None]


@dataclass(frozen=True)
class Status:
    """The database against what should be in it.

    `schema` is "current", "outdated" or "missing". `tables` has a word for each table that was asked for:
    "current"; "outdated" (the trigger, the mode, the columns or the key are others); "missing" (none for that name);
    "absent" (no such table yet); "disabled"; "refused" (nothing that has rows of its own, or not fit for the mode that
    was declared; see `refused` for the reason).
    `orphans` are tables with a trigger of ours that nobody asked for.
    """

    schema: str
    tables: Mapping[TableName, str]
    orphans: tuple[TableName, ...] = ()
    refused: Mapping[TableName, str] = field(default_factory=dict)
    owner: str | None = None
    trusted: bool = True

    @property
    def complete(self) -> bool:
        """True when nothing is to do: every table is current, or not there yet."""
        return self.schema == "current" and all(word in ("current", "absent") for word in self.tables.values())

    @property
    def to_do(self) -> list[TableName]:
        """The tables that an install has to touch."""
        return [name for name, word in self.tables.items() if word in ("missing", "outdated", "disabled")]

    def outdated(self) -> Status:
        """Return the same, but for a schema that is to be written again."""
        return replace(self, schema="outdated")


def read_status(execute: Execute, tables: Sequence[TableName], modes: Modes = by_row) -> Status:
    """Ask the database. Writes nothing."""
    installed = execute(render.schema_status_query()) or []
    schema, trusted, owner = "missing", True, None
    if installed:
        comment, function_comment, has_tables, trusted, owner = installed[0]
        whole = has_tables and _is_current(comment) and comment == function_comment
        schema = "current" if whole else "outdated"
    words: dict[TableName, str] = {}
    orphans: list[TableName] = []
    refused: dict[TableName, str] = {}
    for schema_name, table_name, word, reason in execute(render.status_query(tables, modes)) or []:
        name = TableName(schema_name, table_name)
        if word == "orphan":
            orphans.append(name)
            continue
        words[name] = word
        if word == "refused":
            refused[name] = reason
    ordered = {name: words[name] for name in tables if name in words}
    return Status(schema, ordered, tuple(sorted(orphans)), refused, owner, trusted)


def _is_current(comment: str | None) -> bool:
    """A newer version serves us too: its functions keep the old ones beside them during a deploy."""
    version = re.fullmatch(r"pgevents_push v(\d+) [0-9a-f]+", comment or "")
    return comment == render.stamp() or (version is not None and int(version.group(1)) > render.VERSION)
