"""S30, S32, S34: nothing that arrives is run, positions tell no more than they must, and the tests have no power."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.fixtures.house import House
from tests.fixtures.watch import Watch, canary

ROOT = Path(__file__).parents[2]
PACKAGE = sorted((ROOT / "pgevents_push").rglob("*.py"))
DANGEROUS = {"pickle", "marshal", "shelve", "dill", "yaml", "cPickle", "xmlrpc", "code", "codeop"}


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: str(path.relative_to(ROOT)))
def test_s32_nothing_that_arrives_is_run(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {name.name.split(".")[0] for name in node.names} & DANGEROUS
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in DANGEROUS
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__")


def test_s32_the_linter_looks_for_it_too() -> None:
    selected = re.search(r"^select = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert selected
    assert {'"S301"', '"S307"'} <= set(selected[1].split(", "))


def test_s30_what_is_hidden_moves_nothing_but_the_position(house: House, watch: Watch) -> None:
    """Positions are those of the whole database: they tell that something happened, never what or whose. Everything
    else is the same as if it had not, its number and its order."""
    house.sql("CREATE TABLE hidden (id int PRIMARY KEY, text text)")
    house.events.on_insert("public.hidden")(lambda event: None)
    house.events.expose("docs", columns=["id"], public=True)
    site = house.open(PGEVENTS_HEARTBEAT_SECONDS=0.3)

    def seen(hidden: bool) -> list[tuple[str, str]]:
        stream = site.stream("table=docs")
        stream.next("ready")
        for number in range(50 if hidden else 0):
            house.sql("INSERT INTO hidden VALUES (%s, %s)", number, canary("hidden"))
        found = [stream.next() for _ in range(3)]
        stream.close()
        return [(frame.name, str(frame.data)) for frame in found]

    assert seen(hidden=False) == seen(hidden=True) == [("sync", "{}")] * 3


def test_s34_the_app_of_these_tests_is_nobody_special(house: House) -> None:
    house.events.expose("docs", columns=["id"], public=True)
    house.open()
    [(is_superuser, creates, bypasses)] = house.sql(
        "SELECT rolsuper, rolcreaterole OR rolcreatedb, rolbypassrls OR rolreplication"
        " FROM pg_roles WHERE rolname = %s",
        house.role,
    )
    assert (is_superuser, creates, bypasses) == (False, False, False)
    sessions = house.sql("SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'pgevents_push'"
                         " AND datname = current_database()")  # fmt: skip
    assert sessions == [(house.role,)]
    owned = house.sql("SELECT count(*) FROM pg_class WHERE relowner = %s::regrole", house.role)
    assert owned == [(0,)]
