"""Numbers compare exactly, in the precision of their type."""

from __future__ import annotations

import struct
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgevents_push.hub import numbers
from pgevents_push.hub.numbers import NAN

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


def single_after(number: float) -> float:
    """The next greater single of a positive one."""
    [bits] = struct.unpack("i", struct.pack("f", number))
    return float(struct.unpack("f", struct.pack("i", bits + 1))[0])


def digits_of(number: Fraction) -> str:
    """All digits; the denominator must be a power of two times one of ten."""
    with localcontext() as context:
        context.prec = 400
        return format(Decimal(number.numerator) / Decimal(number.denominator), "f")


@given(st.floats(2.0**-100, 2.0**100, width=32), st.sampled_from([-1, 0, 1]), st.integers(17, 60))
def test_a_real_is_rounded_once(low: float, side: int, digits: int) -> None:
    """A text just beside the middle between two singles: the double nearest to it may be the middle itself."""
    high = single_after(low)
    middle = (Fraction(low) + Fraction(high)) / 2
    exact = middle + side * Fraction(low) / 10**digits
    even = low if struct.unpack("i", struct.pack("f", low))[0] % 2 == 0 else high
    assert numbers.real(digits_of(exact)) == (low if side < 0 else high if side > 0 else even)
    assert numbers.real("-" + digits_of(exact)) == -numbers.real(digits_of(exact))


@given(singles)
def test_a_real_of_a_row_is_what_was_stored(number: float) -> None:
    shortest = next(
        text for text in (f"{number:.{digits}g}" for digits in range(6, 10)) if single(float(text)) == number
    )
    assert numbers.json_real(float(shortest)) == number == numbers.real(shortest)


def single(number: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return float("inf")


@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.decimals(allow_nan=False, places=3)))
def test_nan_is_greater_than_all_and_equal_to_itself(number: Any) -> None:
    nan: Any = NAN
    assert number < nan
    assert number <= nan
    assert nan > number
    assert nan >= number
    assert number != nan
    assert not nan <= number
    assert not nan < number
    assert nan == nan
    assert nan >= nan
    assert nan <= nan
    assert not nan < nan
    assert not nan > nan
    assert repr(nan) == "NaN"


def test_numerics_of_a_row_are_the_digits_that_were_printed() -> None:
    assert numbers.json_numeric(0.1) == numbers.numeric("0.1") == Decimal("0.1")
    assert numbers.json_numeric(2**70) == numbers.numeric(str(2**70))
    assert numbers.json_numeric("NaN") is NAN
    assert list(map(numbers.json_numeric, (True, "1", None, []))) == [None] * 4


@pytest.mark.parametrize("read", [numbers.json_integer, numbers.json_numeric, numbers.json_double, numbers.json_real])
def test_true_is_no_number(read: Any) -> None:
    assert read(True) is None
