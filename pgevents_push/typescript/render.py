"""Render: tables and their columns as TypeScript; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from pgevents_push.event import TableName
from pgevents_push.typescript.members import Member

# As change_json.py sends them: what a double cannot hold comes as a string, and so do NaN and the infinities.
_TYPES = {
    **dict.fromkeys(("smallint", "integer", "oid"), "number"),
    **dict.fromkeys(("bigint", "numeric", "real", "double precision"), "number | string"),
    "boolean": "boolean",
    **dict.fromkeys(("json", "jsonb"), "unknown"),
    "row": "Record<string, unknown>",
}
_HEAD = """\
// Made by `flask pgevents types`: the rows of what this app exposes, as pgevents.js gives them.
import type {{ Change }} from {module};
"""
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)


def render(tables: Mapping[TableName, Iterable[Member]], default_schema: str, module: str) -> str:
    """Return a TypeScript module: an interface for each table's rows, the type of its changes, and `Tables`, which
    finds a row's type by the name that a subscription uses.

    :param default_schema: tables of it go by their bare names.
    :param module: where pgevents.js is, as an import sees it.
    """
    names = _names(tables, default_schema)
    parts = [_HEAD.format(module=json.dumps(module))]
    for table, members in tables.items():
        parts.append(_interface(table, names[table], members))
    entries = [f"  {_key(table.asked(default_schema))}: {name};\n" for table, name in names.items()]
    parts.append(f"export interface Tables {{\n{''.join(entries)}}}\n")
    return "\n".join(parts)


def _interface(table: TableName, name: str, members: Iterable[Member]) -> str:
    lines = "".join(f"  {_key(member.name)}: {_type(member)};\n" for member in members)
    comment = str(table).replace("*/", "* /")
    return f"/** {comment} */\nexport interface {name} {{\n{lines}}}\nexport type {name}Change = Change<{name}>;\n"


def _type(member: Member) -> str:
    text = " | ".join(map(json.dumps, member.labels)) or _TYPES.get(member.type, "string")
    if member.is_array:
        text = f"({text} | null)[]"
    return text if member.filled or text == "unknown" else f"{text} | null"


def _key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)


def _names(tables: Iterable[TableName], default_schema: str) -> dict[TableName, str]:
    """Name each table's interface: `Orders`; where two would be called the same, the later one gets a number."""
    names: dict[TableName, str] = {}
    for table in tables:
        words = re.findall(r"[A-Za-z0-9]+", table.asked(default_schema), re.ASCII)
        name = "".join(word[0].upper() + word[1:] for word in words) or "Table"
        name = f"T{name}" if name[0].isdigit() else name
        taken = {"Tables", "Change", *names.values(), *(f"{other}Change" for other in names.values())}
        number = 2
        unique = name
        while unique in taken or f"{unique}Change" in taken:
            unique, number = f"{name}{number}", number + 1
        names[table] = unique
    return names
