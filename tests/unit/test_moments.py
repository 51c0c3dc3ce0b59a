"""Dates and times of any year become numbers that compare as PostgreSQL compares them."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgevents_push.hub import moments

EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
zones = st.integers(-15 * 60 - 59, 15 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.dates())
def test_days_are_those_of_python(day: date) -> None:
    assert moments.day(day.isoformat()) == (day - EPOCH.date()).days


@given(st.datetimes())
def test_timestamps_too(at: datetime) -> None:
    assert moments.local(at.isoformat()) == moments.local(str(at)) == (at - EPOCH) // MICROSECOND


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), zones)
def test_with_zones_too(at: datetime, zone: timezone) -> None:
    aware = at.replace(tzinfo=zone)
    assert moments.instant(aware.isoformat()) == (aware - EPOCH.replace(tzinfo=timezone.utc)) // MICROSECOND


@given(st.times(), zones)
def test_times_of_day_with_zones_are_equal_only_in_the_same_zone(clock: time, zone: timezone) -> None:
    offset = zone.utcoffset(None) // MICROSECOND
    of_day = moments.clock(clock.isoformat())
    assert moments.clock_with_zone(clock.replace(tzinfo=zone).isoformat()) == (of_day - offset, -offset)


def test_they_are_in_order_beyond_what_python_knows() -> None:
    days = [
        "-infinity",
        "4714-11-24 BC",
        "0001-12-31 BC",
        "0001-01-01",
        "9999-12-31",
        "10000-01-01",
        "5874897-12-31",
        "infinity",
    ]
    values = [moments.day(day) for day in days]
    assert values == sorted(set(values))
    assert moments.day("0001-01-01") - moments.day("0001-12-31 BC") == 1
    assert moments.day("0005-03-01 BC") - moments.day("0005-02-28 BC") == 2  # 5 BC was a leap year


@pytest.mark.parametrize(
    "text", ["2026-02-29", "2026-13-01", "2026-00-01", "2026-01-00", "2026-1-1", "0000-01-01", "now"]
)
def test_no_days(text: str) -> None:
    with pytest.raises(ValueError, match=r"no such|no year 0|write it as"):
        moments.day(text)


@pytest.mark.parametrize("text", ["4714-11-23 BC", "5874898-01-01"])
def test_days_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        moments.day(text)


def test_what_is_no_such_value_in_a_row_is_none() -> None:
    read = moments.json_of(moments.instant)
    assert list(map(read, (None, 7, "2026-01-31", []))) == [None] * 4
    assert read("1970-01-01T00:00:00.000001+00:00") == 1
