"""Persona: as whom PostgreSQL is asked which rows of a table may be seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Of an extension's form: not search_path, nor anything else that is PostgreSQL's own.
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)+")


@dataclass(frozen=True)
class Persona:
    """A role, and settings that its policies read. Equal ones are asked for once."""

    role: str
    settings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, answer: Any) -> Persona:
        """Read what the app's function returned: {"role": "web_user", "settings": {"app.user": "7"}}.

        :raises ValueError: it is something else; says what.
        """
        if not isinstance(answer, Mapping) or set(answer) - {"role", "settings"} or "role" not in answer:
            raise ValueError(f'{type(answer).__name__} instead of {{"role": …, "settings": {{…}}}}')
        role, settings = answer["role"], answer.get("settings") or {}
        if not isinstance(role, str) or role.lower() in ("", "none") or "\0" in role:
            raise ValueError(f"no role: {role!r:.80}")
        for name, value in settings.items():
            if not isinstance(name, str) or not _SETTING.fullmatch(name):
                raise ValueError(f'a setting {name!r:.80}: their names are like "app.user"')
            if isinstance(value, bool) or not isinstance(value, str | int) or "\0" in str(value):
                raise ValueError(f"a value of {name} that is neither a text nor a number: {type(value).__name__}")
        return cls(role, tuple(sorted((name, str(value)) for name, value in settings.items())))
