"""Finding: one thing that the doctor saw, how bad it is, and what cures it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# note: good to know, nothing is wrong; warning: works, but worse than it could; error: does not work.
Severity = Literal["ok", "note", "warning", "error"]
_ORDER: tuple[Severity, ...] = ("ok", "note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One sentence each. `cure` is empty when nothing is to be done."""

    severity: Severity
    what: str
    cure: str = ""


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the highest severity; "ok" when there is no finding."""
    return max((finding.severity for finding in findings), key=_ORDER.index, default="ok")
