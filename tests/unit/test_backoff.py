"""The delay before a reconnect: full jitter below a doubling cap."""

from __future__ import annotations

import pytest

from pgevents_push.listener.backoff import FIRST_SECONDS, LONGEST_SECONDS, delay


def test_it_doubles_up_to_the_cap() -> None:
    delays = [delay(attempt, lambda: 1.0) for attempt in range(1, 12)]
    assert delays[0] == pytest.approx(2 * FIRST_SECONDS)
    assert delays[1] == pytest.approx(2 * delays[0])
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_SECONDS


def test_a_week_of_attempts_overflows_nothing() -> None:
    assert delay(10**6, lambda: 1.0) == LONGEST_SECONDS


def test_the_jitter_is_full() -> None:
    assert delay(5, lambda: 0.0) == 0.0
    drawn = [delay(9) for _ in range(400)]
    assert min(drawn) < 0.1 * LONGEST_SECONDS
    assert max(drawn) > 0.9 * LONGEST_SECONDS
