"""The listener's health in a word: changes are told and logged once."""

from __future__ import annotations

import logging

import pytest

from pgevents_push.listener.pulse import Pulse


def test_only_changes_are_told() -> None:
    told: list[tuple[str, str | None]] = []
    pulse = Pulse(lambda status, error: told.append((status, error)))
    assert pulse.status == "starting"
    pulse.beat("starting")
    for _ in range(3):
        pulse.beat("listening")
    pulse.beat("reconnecting", "first")
    pulse.beat("reconnecting", "second")
    pulse.beat("listening")
    assert told == [("listening", None), ("reconnecting", "first"), ("listening", None)]


def test_the_latest_error_is_kept_until_all_is_well() -> None:
    pulse = Pulse(lambda status, error: None)
    pulse.beat("reconnecting", "first")
    pulse.beat("reconnecting", "second")
    assert pulse.error == "second"
    pulse.beat("listening")
    assert pulse.error is None


def test_trouble_is_a_warning_and_an_hour_of_it_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pulse = Pulse(lambda status, error: None)
    for _ in range(100):
        pulse.beat("reconnecting", "gone")
    pulse.beat("deaf")
    pulse.beat("listening")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]
    assert caplog.messages[0] == "listener is reconnecting: gone"


def test_losses_and_reads_are_counted() -> None:
    now = [100.0]
    pulse = Pulse(lambda status, error: None, clock=lambda: now[0])
    assert (pulse.reconnects, pulse.seconds_since_read) == (0, None)
    pulse.note_read()
    for word in ("listening", "reconnecting", "reconnecting", "listening", "reconnecting"):
        pulse.beat(word)
    now[0] = 101.5
    assert (pulse.reconnects, pulse.seconds_since_read) == (2, 1.5)
