"""Numbers as PostgreSQL compares them, exactly: each type from text and from a row's JSON; pure."""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from typing import Any

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")
# PostgreSQL allows 131,072 digits before the point and 16,383 after it. Comparing costs by the digit.
MAX_DIGITS = 1000


class _NotANumber:
    """PostgreSQL's NaN: equal to itself and greater than all numbers."""

    def __lt__(self, other: object) -> bool:
        return False

    def __le__(self, other: object) -> bool:
        return other is self

    def __gt__(self, other: object) -> bool:
        return other is not self

    def __ge__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "NaN"


NAN = _NotANumber()
_INFINITY = float("inf")
_SPECIAL: dict[str, Any] = {
    "nan": NAN, "infinity": _INFINITY, "+infinity": _INFINITY, "-infinity": -_INFINITY,
    "inf": _INFINITY, "+inf": _INFINITY, "-inf": -_INFINITY,
}  # fmt: skip
_JSON_SPECIAL: dict[str, Any] = {"NaN": NAN, "Infinity": _INFINITY, "-Infinity": -_INFINITY}


def integer(text: str, bits: int) -> int:
    """Read a whole number.

    :raises ValueError: it is none, or out of the type's range.
    """
    if not _INTEGER.fullmatch(text.strip(" ")):
        raise ValueError("write a whole number.")
    if not -(2 ** (bits - 1)) <= int(text) < 2 ** (bits - 1):
        raise ValueError("it is out of range.")
    return int(text)


def numeric(text: str) -> Any:
    """Read an exact number: a Decimal, an infinity as float, or NAN.

    :raises ValueError: it is none.
    """
    number = _special_or_exact(text)
    if isinstance(number, Decimal):
        _, digits, exponent = number.as_tuple()
        if len(digits) > MAX_DIGITS or abs(int(exponent)) > MAX_DIGITS:
            raise ValueError(f"write at most {MAX_DIGITS} digits.")
    return number


def double(text: str) -> Any:
    """Read a floating-point number: a float, or NAN.

    :raises ValueError: it is none, or too large or too small for a double.
    """
    number = _special_or_exact(text)
    return _in_range(float(number), number) if isinstance(number, Decimal) else number


def real(text: str) -> Any:
    """Read a number of single precision: the float that stands for it exactly, or NAN.

    :raises ValueError: it is none, or too large or too small for a real.
    """
    number = _special_or_exact(text)
    return _in_range(_single(float(number), number), number) if isinstance(number, Decimal) else number


def _special_or_exact(text: str) -> Any:
    text = text.strip(" ")
    if text.lower() in _SPECIAL:
        return _SPECIAL[text.lower()]
    if not _NUMBER.fullmatch(text):
        raise ValueError("write a number.")
    return Decimal(text)


def _in_range(number: float, exact: Decimal) -> float:
    if abs(number) == _INFINITY or (number == 0) is not (exact == 0):
        raise ValueError("it is out of range.")
    return number


def _single(near: float, exact: Decimal) -> float:
    """Round to single precision, once: the double nearest to a number may lie halfway between two singles."""
    single = _packed(near)
    if single == near or abs(near) == _INFINITY:
        return single
    beyond = near + (near - single)  # the other neighbour, if `near` is halfway
    if _packed(beyond) == beyond and Decimal(near) != exact:
        return max(single, beyond) if exact > Decimal(near) else min(single, beyond)
    return single


def _packed(number: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return _INFINITY if number > 0 else -_INFINITY


def json_integer(value: Any) -> Any:
    """Read a whole number of a row."""
    return value if type(value) is int else None


def json_numeric(value: Any) -> Any:
    """Read a numeric of a row: a float stands for the digits that it prints."""
    if type(value) is int or isinstance(value, Decimal):
        return value
    return Decimal(repr(value)) if isinstance(value, float) else _json_special(value)


def json_double(value: Any) -> Any:
    """Read a double of a row."""
    if isinstance(value, float):
        return value
    return float(value) if type(value) is int or isinstance(value, Decimal) else _json_special(value)


def json_real(value: Any) -> Any:
    """Read a real of a row: PostgreSQL prints the shortest text that gives the same single again."""
    if type(value) is int:
        return _packed(float(value))
    return _single(value, Decimal(repr(value))) if isinstance(value, float) else _json_special(value)


def _json_special(value: Any) -> Any:
    return _JSON_SPECIAL.get(value) if isinstance(value, str) else None
