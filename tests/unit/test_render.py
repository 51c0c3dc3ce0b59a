"""The SQL files become statements that any driver runs unchanged."""

from __future__ import annotations

import re

import pytest

from pgevents_push.capture import ddl, render, uninstall_ddl
from pgevents_push.event import TableName

EVIL = TableName("{table}S'$pgevents$\\", '50%s %(a)s "; DROP TABLE x; --{table}')


def statements() -> list[str]:
    return [
        *render.transaction_start(2.0),
        *render.schema_statements(1000),
        *render.table_statements(EVIL),
        *render.reader_statements("re\"ad'er%"),
        *render.uninstall_table_statements(EVIL),
        *render.uninstall_statements(),
        render.status_query([EVIL]),
        render.schema_status_query(),
    ]


def test_no_statement_holds_a_percent_sign() -> None:
    assert not [statement for statement in statements() if "%" in statement]


def test_names_like_places_are_only_names() -> None:
    (statement,) = render.table_statements(EVIL)
    assert "E'{table}S''" in statement


def test_no_name_ends_the_dollar_quote() -> None:
    for statement in statements():
        assert statement.count("$pgevents$") in (0, 2)


def test_no_place_is_left_unfilled() -> None:
    for statement in render.schema_statements(1234) + render.table_statements(TableName("a", "b")):
        assert not re.search(r"\{[a-z_]+\}", statement)


def test_each_file_says_why_in_its_first_line() -> None:
    for name in (*render._SCHEMA_FILES, "ownership", "table", "reader", "uninstall", "uninstall_table", "status"):
        assert render._file(name).startswith("-- ")


def test_the_cap_is_not_part_of_the_hash() -> None:
    assert "SELECT 1234\n" in "".join(render.schema_statements(1234))
    first, second = ([s for s in render.schema_statements(cap) if s.startswith("COMMENT")] for cap in (1234, 99999))
    assert first == second
    assert render.stamp() in first[0]


def test_the_hash_changes_with_the_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    before, read = render.stamp(), render._file
    monkeypatch.setattr(render, "_file", lambda name: read(name) + ("\n-- more" if name == "ring" else ""))
    assert render.stamp() != before


def test_security_definer_always_comes_with_a_search_path_that_ends_in_pg_temp() -> None:
    for statement in render.schema_statements(1000):
        if "SECURITY DEFINER" in re.sub("--.*", "", statement):
            assert "SET search_path = pg_catalog, pg_temp\n" in statement


def test_ddl_is_a_script_with_a_transaction_for_each_table() -> None:
    script = ddl([TableName("a", "b"), TableName("c", "d")], max_row_bytes=1000, reader="app")
    assert script.count("BEGIN;") == script.count("COMMIT;") == 3
    assert script.count("SET LOCAL lock_timeout") == 3
    assert "quote_ident('app')" in script
    assert "DROP SCHEMA" in uninstall_ddl()
    assert "DROP SCHEMA" not in uninstall_ddl([TableName("a", "b")])
