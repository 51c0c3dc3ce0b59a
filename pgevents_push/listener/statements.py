"""The SQL of this room: one statement a file, sent without its comments."""

from __future__ import annotations

from importlib import resources


def statement(name: str) -> str:
    """Return the statement in sql/`name`. Its comments are for readers of the file: pg_stat_activity shows only the
    first 1,024 bytes of what is sent."""
    text = resources.files("pgevents_push.listener").joinpath("sql").joinpath(name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
