"""The rules of the house that no linter knows: sizes, first lines, and that the README tells what the code has."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

import pgevents_push
from pgevents_push.config import Config

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "pgevents_push").rglob("*.py"))
ALL = [*PACKAGE, *sorted((ROOT / "demo").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
README = (ROOT / "README.md").read_text()
ROW = re.compile(r"^\|\s*`(PGEVENTS_[A-Z_]+)`\s*\|\s*([^|]*?)\s*\|", re.MULTILINE)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_a_file_has_at_most_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_a_file_begins_by_saying_its_job(path: Path) -> None:
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
    assert len(first) > 20, "the first line says the file's one job"
    assert first.rstrip().endswith((".", "?", "!")) or len(first) > 60, first


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def test_functions_are_short() -> None:
    sizes = sorted((node.end_lineno or 0) - node.lineno + 1 for path in PACKAGE for node in functions(path))
    assert sizes[len(sizes) * 9 // 10] <= 30


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_what_users_touch_has_a_docstring(path: Path) -> None:
    bare = [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if ast.get_docstring(node) is None
    ]
    # A public name inside the package is at least a public name of its room.
    assert not [name for name in bare if name in pgevents_push.__all__]


@pytest.mark.parametrize("path", ALL, ids=relative)
def test_nothing_is_left_for_later(path: Path) -> None:
    if path == Path(__file__):
        return
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    assert not re.search(r"mark\.(skip|xfail)|pytest\.(skip|xfail)\(", text)
    assert not re.search(r"^\s*except\s*:", text, re.MULTILINE)


def test_no_two_test_files_have_one_name() -> None:
    """pytest would take them for one module, but only where all of them are collected."""
    names = [path.name for path in ALL if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("path", PACKAGE, ids=relative)
def test_the_package_silences_no_type_checker(path: Path) -> None:
    assert "type: ignore" not in path.read_text()


@pytest.mark.parametrize("name", sorted(pgevents_push.__all__))
def test_the_readme_names_every_public_name(name: str) -> None:
    assert re.search(rf"\b{name}\b", README)


def test_every_public_name_exists() -> None:
    assert all(hasattr(pgevents_push, name) for name in pgevents_push.__all__)


# --- The table of settings


def rows() -> dict[str, str]:
    found = ROW.findall(README)
    assert len(found) == len(dict(found)), "a setting has two rows"
    return dict(found)


def test_the_readme_lists_every_setting_and_no_other() -> None:
    assert set(rows()) == {f"PGEVENTS_{field.name.upper()}" for field in fields(Config)}


def plain(text: str) -> str:
    """A default as people write it: without backticks, quotes, thousands' separators, or the rest of a sentence."""
    return re.sub(r"[`\"'_, ]", "", text.split(" (")[0]).lower()


@pytest.mark.parametrize("field", fields(Config), ids=lambda field: field.name)
def test_the_readme_has_each_default(field: object) -> None:
    name, default = field.name, field.default  # type: ignore[attr-defined]
    written = plain(rows()[f"PGEVENTS_{name.upper()}"])
    number = f"{default:g}" if isinstance(default, float) else str(default)
    assert written in {plain(number), plain(repr(default))}, f"{name}: the README has {written!r}, the code {default!r}"
