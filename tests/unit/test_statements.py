"""A prepared statement says what the plain one says, with its parameters in the same places."""

from __future__ import annotations

import pytest

from pgevents_push.listener.statements import Prepared, prepared, statement


@pytest.mark.parametrize("name", ["xmax.sql", "shapes.sql"])
def test_it_is_the_same_text_elsewhere(name: str) -> None:
    assert prepared(name) == statement(name)
    assert prepared(name).name == f"pgevents_{name[:-4]}"
    assert "%(" not in prepared(name).command


def test_parameters_are_numbered_once_and_typed_by_their_casts() -> None:
    made = Prepared("SELECT (%(b)s)::xid8, %(limit)s, (%(a)s)::text[], (%(b)s)::xid8")
    made.name = "x"
    assert made.command == "PREPARE x AS SELECT ($1)::xid8, $2, ($3)::text[], ($1)::xid8"
    assert made.call == "EXECUTE x(%(b)s::xid8, %(limit)s, %(a)s::text[])"


def test_a_part_is_put_into_its_place_and_its_parameters_count() -> None:
    made = prepared("since.sql", "other", running="UNION ALL SELECT %(xip)s", change="l.id")
    assert made.command.startswith("PREPARE pgevents_other AS WITH")
    assert "UNION ALL SELECT $2" in made.command
    assert "{" not in made
    assert made.call == "EXECUTE pgevents_other(%(xmax)s::xid8, %(xip)s, %(limit)s, %(bytes)s)"


def test_numbers_are_written_into_the_call_and_nothing_else_is() -> None:
    made = Prepared("SELECT (%(xmax)s)::xid8, (%(xip)s)::xid8[], %(limit)s")
    made.name = "x"
    assert made.filled({"xmax": "12", "xip": ["3", "4"], "limit": 5}) == "EXECUTE x('12'::xid8, '{3,4}'::xid8[], '5')"
    assert made.filled({"xmax": "12", "xip": [], "limit": 5}) == "EXECUTE x('12'::xid8, '{}'::xid8[], '5')"
    for odd in ("1'", "", "1 ", "-1", "1.5", "\u0663", None, 1.5, ["1,2"], ["1}"], [3], ("3",)):
        assert made.filled({"xmax": odd, "xip": [], "limit": 5}) is None
