"""Turn the SQL files of this room into statements, and the statements into a hash. Pure: no connection.

No statement holds a percent sign, so each runs unchanged through any driver.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple, get_args

from pgevents_push.capture.tables import literal
from pgevents_push.event import TableName

# Counts up when the functions get another suffix. An older process leaves a newer installation alone.
VERSION = 1
# Any number that nobody else locks; this one spells "pgevents".
INSTALL_LOCK = int.from_bytes(b"pgevents", "big")
# One pruner at a time in a database; the others have nothing to do meanwhile.
PRUNE_LOCK = int.from_bytes(b"pgeprune", "big")
# Of the ring, two slots may not be emptied and one may be in the middle of it: the rest has to hold what is kept, so
# a slot is seconds / (SLOTS - 3) long, and rows go after at most (SLOTS - 1) / (SLOTS - 3) of the time. Inserting
# costs the same with 6, 8 and 12 slots as without any (a change of 85 us); planning a read 0.02 ms more for each.
SLOTS = 8
_SCHEMA_FILES = (
    "owner", "schema", "installation", "retention", "emptied", "captured", "log_plain", "log", "log_types", "log_slots",
    "log_index", "installation_row", "key_columns", "captured_columns", "spelled", "as_made", "row_query", "key_query",
    "columns_query", "max_row_bytes", "ring", "carefully", "settings", "capture_source", "key_source", "long_json",
    "statement_query", "statement_source", "opened", "spell", "mixed", "make_capture", "tidy", "begin",
    "captured_before", "due", "due_now", "slot_rows", "prune", "revoke", "spent", "spent_index", "spend",
)  # fmt: skip
_RIGHTS_FILES = ("ownership", "grants")
# Its comment tells, beside the schema's, what is installed: a comment goes with what it is on.
MAKE_CAPTURE = "pgevents.make_capture_v1(oid, text, text, text, text, text)"


# How a table is captured: each row that a statement changes by itself, all of them at once, or their keys only.
Mode = Literal["row", "statement", "key"]
MODES: tuple[Mode, ...] = get_args(Mode)
Modes = Callable[[TableName], Mode]


def by_row(_: TableName) -> Mode:
    """Capture each row by itself, whichever the table."""
    return "row"


class Retention(NamedTuple):
    """How long and how much the log keeps.

    :param seconds: every change is kept at least this long (1.4 times, when somebody prunes), unless there are
        more than `rows` of them.
    :param rows: about how many; the slot that is being written is never emptied, so a burst may pass it.
    """

    seconds: float = 3600.0
    rows: int = 1_000_000


KEEP = Retention()


@cache
def _file(name: str) -> str:
    return files(__package__).joinpath("sql").joinpath(f"{name}.sql").read_text(encoding="utf-8").strip()


def _filled(name: str, **values: str) -> str:
    """Put values into the places of a file, in one pass: a table may be called "{table}"."""
    return re.sub(r"\{([a-z_]+)\}", lambda place: values[place.group(1)], _file(name))


def stamp() -> str:
    """Return the comment that tells what is installed: version and hash.

    The settings are left out: two applications with different ones would take turns for ever.
    """
    text = "\0".join([*(_file(name) for name in (*_SCHEMA_FILES, *_RIGHTS_FILES)), str(SLOTS)])
    return f"pgevents_push v{VERSION} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def schema_statements(max_row_bytes: int, retention: Retention = KEEP, *, always: bool = False) -> list[str]:
    """Return what makes the schema, the log and the functions; run again it brings an older one up to date.

    :param max_row_bytes: rows whose JSON is longer are logged as key and `truncated`.
    :param always: change the retention of a log that is there already; else it keeps its own.
    """
    values = {
        "max_row_bytes": str(int(max_row_bytes)), "seconds": repr(float(retention.seconds)),
        "rows": str(int(retention.rows)), "always": str(always).lower(), "slots": str(SLOTS),
        "prune_lock": str(PRUNE_LOCK),
    }  # fmt: skip
    made = [_filled(name, **values) for name in _SCHEMA_FILES]
    comments = [
        f"COMMENT ON FUNCTION {MAKE_CAPTURE} IS {literal(stamp())}",
        f"COMMENT ON SCHEMA pgevents IS {literal(stamp())}",
    ]
    return [*made, *comments, *map(_file, _RIGHTS_FILES)]


def table_statements(name: TableName, mode: Mode = "row") -> list[str]:
    """Return what captures one table. Its columns and key are looked up by the statement itself."""
    function = literal(function_name(name, mode))
    names = {"schema": literal(name.schema), "table": literal(name.name), "function": function, "mode": literal(mode)}
    return [_filled("table", **names, shape=_shape("target"), triggers=_triggers())]


def function_name(name: TableName, mode: Mode = "row") -> str:
    """Return the name of a table's trigger function: not with the table's own, which may be too long, nor with its
    oid, which is another table's after pg_dump. make_capture.sql reads the mode in it."""
    text = f"{len(name.schema)} {name.schema} {name.name}"
    how = "" if mode == "row" else f"{mode}_"
    return f"capture_v{VERSION}_{how}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _triggers() -> str:
    """Return the triggers of each mode, to stand in a FROM."""
    return re.sub("(?m)^--.*\n", "", _file("triggers"))


def _shape(relation: str) -> str:
    """Return the expression for what the trigger function of a relation has to be made for."""
    return _filled("shape", stamp=literal(stamp()), relation=relation)


def reader_statements(role: str) -> list[str]:
    """Return what lets one more role read the log."""
    return [_filled("reader", role=literal(role)), _file("grants")]


def uninstall_table_statements(name: TableName) -> list[str]:
    """Return what stops capturing one table."""
    return [_filled("uninstall_table", schema=literal(name.schema), table=literal(name.name))]


def uninstall_statements() -> list[str]:
    """Return what takes back everything, on all tables."""
    return [_file("uninstall")]


def status_query(tables: Iterable[TableName], modes: Modes = by_row) -> str:
    """Return the query for (schema, table, word, reason) of each table, orphans included."""
    names = list(tables)
    lists: dict[str, list[str]] = {
        "schemas": [name.schema for name in names],
        "tables": [name.name for name in names],
        "functions": [function_name(name, modes(name)) for name in names],
        "modes": [modes(name) for name in names],
    }
    values = {key: ", ".join(map(literal, each)) for key, each in lists.items()}
    return _filled("status", **values, version=str(VERSION), shape=_shape("c.oid"), triggers=_triggers())


def schema_status_query() -> str:
    """Return the query for what is installed; no row when nothing is."""
    return _filled("schema_status", slots=str(SLOTS))


def transaction_start(lock_timeout_seconds: float) -> list[str]:
    """Return what begins each transaction of an installer: nobody's names in the way, polite, one at a time."""
    return [
        "SET LOCAL search_path = pg_catalog, pg_temp",
        f"SET LOCAL lock_timeout = {max(1, round(lock_timeout_seconds * 1000))}",
        f"SELECT pg_catalog.pg_advisory_xact_lock({INSTALL_LOCK})",
    ]


def ddl(
    tables: Sequence[TableName],
    *,
    max_row_bytes: int,
    retention: Retention = KEEP,
    lock_timeout_seconds: float = 2.0,
    reader: str | None = None,
    modes: Modes = by_row,
) -> str:
    """Return the whole installation as a script for psql. It passes over tables that do not exist yet."""
    first = schema_statements(max_row_bytes, retention, always=True) + (reader_statements(reader) if reader else [])
    return _script([first, *(table_statements(name, modes(name)) for name in tables)], lock_timeout_seconds)


def uninstall_ddl(tables: Sequence[TableName] = (), *, lock_timeout_seconds: float = 2.0) -> str:
    """Return the removal as a script for psql: of these tables' triggers, or of everything when none is named."""
    groups = list(map(uninstall_table_statements, tables)) or [uninstall_statements()]
    return _script(groups, lock_timeout_seconds)


def _script(groups: list[list[str]], lock_timeout_seconds: float) -> str:
    """One transaction for each group: no lock is kept while waiting for the next."""
    start = transaction_start(lock_timeout_seconds)
    blocks = [["BEGIN", *start, *group, "COMMIT"] for group in groups]
    return "\n\n".join(";\n\n".join(block) + ";" for block in blocks) + "\n"
