"""The map of security requirements is whole, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = dict(re.findall(r"^\| (S\d+) \|[^|]*\|([^|]*)\|$", (TESTS / "security" / "README.md").read_text(), re.MULTILINE))
EXISTING = {
    name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
}


def test_every_requirement_has_a_line() -> None:
    assert list(ROWS) == [f"S{number}" for number in range(1, 35)]


@pytest.mark.parametrize("number", ROWS)
def test_every_test_of_a_line_exists(number: str) -> None:
    named = re.findall(r"`(test_\w+)`", ROWS[number])
    assert named or ROWS[number].strip().startswith("documented: ")
    assert [name for name in named if name not in EXISTING] == []


def test_every_test_that_bears_a_number_is_about_something_in_the_map() -> None:
    numbers = {int(number) for name in EXISTING for number in re.findall(r"^test_s(\d\d)_", name)}
    assert numbers <= set(range(1, 35))
