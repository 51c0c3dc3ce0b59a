"""Marks: they fit as long as nothing that was marked changed, and know since when that is so."""

from __future__ import annotations

import pytest

from pgevents_push.cursor import Snapshot
from pgevents_push.hub import Definition
from tests.fixtures.views import COLUMNS

SHAPE = {"id": "700", "status": "700.705", "total": "712"}


def defined(shape: dict[str, str] = SHAPE, xmax: int = 800, seen: int = 720) -> Definition:
    return Definition(COLUMNS, shape, Snapshot(seen, seen), xmax)


@pytest.mark.parametrize(
    ("names", "shape", "fits"),
    [
        (["id"], {**SHAPE, "total": "900"}, True),
        (["id", "total"], {**SHAPE, "total": "900"}, False),
        (["status"], {**SHAPE, "status": "700.705.901"}, False),
        (["id"], {**SHAPE, "more": "900"}, True),
        (["id"], {"status": "700"}, False),
        (["absent"], SHAPE, True),
        (["absent"], {**SHAPE, "absent": "900"}, False),
        (None, {**SHAPE, "more": "900"}, True),
        (None, {"id": "700", "status": "700.705"}, False),
        (["id"], {}, False),
    ],
)
def test_a_mark_fits_as_long_as_its_own_columns_stay(
    names: list[str] | None, shape: dict[str, str], fits: bool
) -> None:
    assert defined().mark(names).fits(shape) is fits


def test_it_was_true_at_every_position_that_knows_its_making() -> None:
    mark = defined().mark(["id", "status"])
    assert mark.newest == 705
    assert not mark.was_true_at(Snapshot(705, 705))
    assert mark.was_true_at(Snapshot(706, 706))
    assert not mark.was_true_at(Snapshot(705, 710, (705,)))


def test_it_was_true_from_where_it_was_read_although_no_position_knows_its_making() -> None:
    """No position reaches further than the last change of a captured table: of an ALTER TABLE it knows nothing."""
    mark = defined(seen=600).mark(None)
    assert not mark.was_true_at(Snapshot(599, 599))
    assert mark.was_true_at(Snapshot(600, 600))


def test_what_an_earlier_reading_found_the_same_was_true_from_there_on() -> None:
    """Another column was altered, so all were read anew: who shows and compares only the others goes on."""
    before = defined(seen=600)
    altered = defined({**SHAPE, "total": "900"}, xmax=950, seen=940).after(before)
    assert altered.mark(["id", "status"]).was_true_at(Snapshot(600, 600))
    assert not altered.mark(["id", "status"]).was_true_at(Snapshot(599, 599))
    for names in (["total"], ["id", "total"], None):
        assert not altered.mark(names).was_true_at(Snapshot(890, 890))
        assert altered.mark(names).was_true_at(Snapshot(940, 940))
    again = defined({**SHAPE, "total": "990"}, xmax=999, seen=980).after(altered)
    assert again.mark(["id"]).was_true_at(Snapshot(600, 600))


def test_transactions_of_rows_have_32_bits() -> None:
    wrapped = 2**32
    assert defined(xmax=wrapped + 800).mark(None).newest == wrapped + 712
    assert defined(xmax=wrapped + 700).mark(None).newest == wrapped + 700
    assert defined(xmax=wrapped + 10).mark(["total"]).newest == 712


def test_equal_columns_are_one_mark_whenever_they_were_read() -> None:
    assert defined(seen=1).mark(None) == defined(seen=700).mark(None)
    assert hash(defined(seen=1).mark(None)) == hash(defined(seen=700).mark(None))


def test_columns_for_expressions() -> None:
    columns = defined().c
    assert str(columns.owner_id == 7) == "public.orders.owner_id = :owner_id_1"
    assert str(columns.total.type) == "NUMERIC"
