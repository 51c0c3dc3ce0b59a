"""Dates and times as whole numbers, of any year that PostgreSQL knows: read from ISO text; pure.

Days and microseconds are counted from 1970-01-01; Python's own types end at the years 1 and 9999.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

_DATE = r"(?P<year>[0-9]{4,7})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_CLOCK = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?)?"
_ZONE = r"(?:[Zz]|(?P<sign>[+-])(?P<zh>[0-9]{2})(?::?(?P<zm>[0-9]{2})(?::(?P<zs>[0-9]{2}))?)?)"
_ERA = r"(?P<bc> BC)?"
_DAY = re.compile(_DATE + _ERA)
_LOCAL = re.compile(f"{_DATE}(?:[T ]{_CLOCK})?{_ERA}")
_INSTANT = re.compile(f"{_DATE}[T ]{_CLOCK}{_ZONE}{_ERA}")
_TIME = re.compile(_CLOCK)
_TIME_WITH_ZONE = re.compile(_CLOCK + _ZONE)

_DAY_MICROSECONDS = 86_400_000_000
# The first day is that of the Julian calendar's epoch; a timestamp ends before the year 294277.
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_042_905
_END_OF_TIMESTAMPS = 106_762_940 * _DAY_MICROSECONDS

# An infinity is a float, which Python compares exactly with whole numbers.
Moment: TypeAlias = "int | float"
_INFINITE: dict[str, Moment] = {"infinity": float("inf"), "-infinity": float("-inf")}


def day(text: str) -> Moment:
    """Read a date.

    :raises ValueError: it is none.
    """
    if text in _INFINITE:
        return _INFINITE[text]
    found = _matched(_DAY, text, "write it as 2026-01-31.")
    return _days(found)


def local(text: str) -> Moment:
    """Read a timestamp without a zone; a date alone is its midnight.

    :raises ValueError: it is none, or has a zone.
    """
    if text in _INFINITE:
        return _INFINITE[text]
    found = _matched(_LOCAL, text, "write it as 2026-01-31T12:00:00, without a zone.")
    return _within(_days(found) * _DAY_MICROSECONDS + (_clock(found, 23) if found["hour"] else 0))


def instant(text: str) -> Moment:
    """Read a timestamp with its zone.

    :raises ValueError: it is none, or has no zone.
    """
    if text in _INFINITE:
        return _INFINITE[text]
    found = _matched(_INSTANT, text, "write it as 2026-01-31T12:00:00Z, or with +02:00, which in a URL is %2B02:00.")
    return _within(_days(found) * _DAY_MICROSECONDS + _clock(found, 23) - _offset(found))


def clock(text: str) -> int:
    """Read a time of day.

    :raises ValueError: it is none, or has a zone.
    """
    return _clock(_matched(_TIME, text, "write it as 12:00:00, without a zone."), 24)


def clock_with_zone(text: str) -> tuple[int, int]:
    """Read a time of day with its zone. PostgreSQL orders them by the moment, then by the zone from east to west.

    :raises ValueError: it is none, or has no zone.
    """
    found = _matched(_TIME_WITH_ZONE, text, "write it as 12:00:00Z, or with +02:00, which in a URL is %2B02:00.")
    offset = _offset(found)
    return _clock(found, 24) - offset, -offset


def json_of(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return how to read such a value of a row; None for what is none.

    Many subscribers compare the same row: what it holds is read once.
    """

    @lru_cache(maxsize=256)
    def cached(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            return None

    return lambda value: cached(value) if isinstance(value, str) else None


def _matched(pattern: re.Pattern[str], text: str, hint: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError(hint)
    return found


def _days(found: re.Match[str]) -> int:
    year, month, day = int(found["year"]), int(found["month"]), int(found["day"])
    if year == 0:
        raise ValueError("there is no year 0.")
    year = 1 - year if found["bc"] else year
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        raise ValueError("there is no such day.")
    days = _day_number(year, month, day)
    if not _FIRST_DAY <= days <= _LAST_DAY:
        raise ValueError("it is out of range.")
    return days


def _day_number(year: int, month: int, day: int) -> int:
    """Count the days from 1970-01-01 in the Gregorian calendar, with years that begin in March."""
    year -= month < 3
    before = 365 * year + year // 4 - year // 100 + year // 400
    return before + (153 * ((month - 3) % 12) + 2) // 5 + day - 719_469


def _clock(found: re.Match[str], last_hour: int) -> int:
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"] or 0)
    time = (hour * 3600 + minute * 60 + second) * 1_000_000 + int((found["fraction"] or "").ljust(6, "0"))
    if hour > last_hour or minute > 59 or second > 59 or time > _DAY_MICROSECONDS:
        raise ValueError("there is no such time.")
    return time


def _offset(found: re.Match[str]) -> int:
    """Return the microseconds by which the zone is ahead of UTC."""
    if not found["sign"]:
        return 0
    hours, minutes, seconds = int(found["zh"]), int(found["zm"] or 0), int(found["zs"] or 0)
    if hours > 15 or minutes > 59 or seconds > 59:
        raise ValueError("there is no such zone.")
    offset = (hours * 3600 + minutes * 60 + seconds) * 1_000_000
    return -offset if found["sign"] == "-" else offset


def _within(microseconds: int) -> int:
    if not _FIRST_DAY * _DAY_MICROSECONDS <= microseconds < _END_OF_TIMESTAMPS:
        raise ValueError("it is out of range.")
    return microseconds
