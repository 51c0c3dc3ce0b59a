"""The listener's health in a word: changes are told and logged once."""

from __future__ import annotations

import logging

import pytest

from pgevents_push.listener.pulse import Pulse, without_names


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


def test_a_standstill_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    pulse = Pulse(lambda status, error: None, lambda: now[0])
    for seconds in (0.2, 2.0, 3.0):
        pulse.note_overslept(seconds)
    assert [record.message[:36] for record in caplog.records] == ["this process stood still for 2.0 s, "]
    now[0] = 61.0
    pulse.note_overslept(4.0)
    assert "4.0 s" in caplog.records[-1].message


def test_another_cause_is_logged_but_not_each_of_a_flood(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    pulse = Pulse(lambda status, error: None, lambda: now[0])
    pulse.beat("reconnecting", "the server goes down")
    for second in range(1, 31):
        now[0] = float(second)
        pulse.beat("reconnecting", f"refused {second % 2}")
    assert [record.message for record in caplog.records] == [
        "listener is reconnecting: the server goes down",
        "listener is reconnecting: refused 1",
        "listener is reconnecting: refused 0",
    ]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            'connection to server at "db.a", port 5432 failed: FATAL:  password authentication failed for user "a"',
            "password authentication failed for user …",
        ),
        ('connection to server on socket "/run/x/.s.PGSQL.5432" failed: Connection refused', "Connection refused"),
        ('FATAL:  database "shop" does not exist', "database … does not exist"),
        ("FATAL:  sorry, too many clients already", "sorry, too many clients already"),
        ("FATAL:  Datenbank »shop« existiert nicht", "Datenbank … existiert nicht"),
        ("terminating connection due to administrator command", "terminating connection due to administrator command"),
        ("PostgreSQL did not answer within 10 s", "PostgreSQL did not answer within 10 s"),
    ],
)
def test_the_cause_has_no_names(error: str, cause: str) -> None:
    pulse = Pulse(lambda status, error: None)
    pulse.beat("reconnecting", error)
    assert pulse.cause == without_names(error) == cause
    pulse.beat("listening")
    assert pulse.cause is None
