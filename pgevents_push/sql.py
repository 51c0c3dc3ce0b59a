"""SQL files: one statement each, in the folder sql/ of the room that asks it, and sent without its comments."""

from __future__ import annotations

from importlib import resources


def statement(room: str, name: str) -> str:
    """Return the statement in sql/`name` of a room. Its comments are for readers of the file: pg_stat_activity shows
    only the first 1,024 bytes of what is sent.

    :param room: the package, as "pgevents_push.listener".
    """
    text = resources.files(room).joinpath("sql").joinpath(name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
