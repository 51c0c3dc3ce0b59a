"""The settings: read once, each with its kind and its least value; what is wrong is named."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from pgevents_push.config import Config
from pgevents_push.errors import ConfigurationError

# For every setting: a value that differs from the default, and what is read of it.
GOOD: dict[str, tuple[Any, Any]] = {
    "database_url": ("postgresql://h/d", "postgresql://h/d"),
    "install": ("verify", "verify"),
    "autostart": (False, False),
    "default_schema": ("shop", "shop"),
    "heartbeat_seconds": (2, 2.0),
    "poll_seconds": (0.5, 0.5),
    "wakeup": ("poll", "poll"),
    "retry_seconds": (0, 0.0),
    "connect_timeout_seconds": (3, 3.0),
    "lock_timeout_seconds": (1, 1.0),
    "max_row_bytes": (2000, 2000),
    "retention_seconds": (60, 60.0),
    "retention_rows": (1000, 1000),
    "max_batch_events": (1, 1),
    "max_queue_bytes": (5000, 5000),
    "handover": (False, False),
    "handler_queue_events": (7, 7),
    "max_snapshots": (1, 1),
    "snapshot_seconds": (5, 5.0),
    "history_bytes": (0, 0),
    "send_timeout_seconds": (1, 1.0),
    "max_message_bytes": (1000, 1000),
    "max_subscriptions": (1, 1),
    "max_query_bytes": (100, 100),
    "max_connections": (1, 1),
    "max_connections_per_address": (0, 0),
    "max_connections_per_identity": (0, 0),
    "max_stream_seconds": (0, 0.0),
    "metrics": (True, True),
    "inspector": (True, True),
    "allowed_origins": (["https://a.example", "https://b.example"], ("https://a.example", "https://b.example")),
}
NUMBERS = [f.name for f in fields(Config) if f.type in ("int", "float")]


def read(**settings: Any) -> Config:
    return Config.from_mapping({f"PGEVENTS_{name.upper()}": value for name, value in settings.items()})


def test_nothing_set_gives_the_defaults() -> None:
    assert Config.from_mapping({"SECRET_KEY": "x", "PGEVENTSX": 1, "AUDIT_PGEVENTS_NONSENSE": 1}) == Config()


@pytest.mark.parametrize("name", [f.name for f in fields(Config)])
def test_every_setting_is_reachable(name: str) -> None:
    given, expected = GOOD[name]
    config = read(**{name: given})
    assert getattr(config, name) == expected
    assert type(getattr(config, name)) is type(expected)
    assert getattr(Config(), name) != expected


@pytest.mark.parametrize("name", [f.name for f in fields(Config)])
def test_every_setting_says_what_it_means(name: str) -> None:
    metadata = {f.name: f.metadata for f in fields(Config)}[name]
    assert metadata["text"]


def test_units_are_in_the_names() -> None:
    suffixes = (
        "_seconds",
        "_bytes",
        "_events",
        "_rows",
        "_subscriptions",
        "_snapshots",
        "_connections",
        "_per_address",
        "_per_identity",
    )
    assert [name for name in NUMBERS if not name.endswith(suffixes)] == []


def test_a_misspelt_key_names_the_nearest_real_one() -> None:
    with pytest.raises(ConfigurationError, match=r"PGEVENTS_HEARTBEAT\..* mean PGEVENTS_HEARTBEAT_SECONDS\?"):
        read(heartbeat=15)


def test_a_key_like_no_other_gets_the_list() -> None:
    with pytest.raises(ConfigurationError, match=r"PGEVENTS_QQQQ.*The settings are: PGEVENTS_DATABASE_URL, "):
        Config.from_mapping({"PGEVENTS_QQQQ": 1})


def test_a_second_instance_reads_its_own_prefix() -> None:
    mapping = {"PGEVENTS_POLL_SECONDS": 3, "AUDIT_PGEVENTS_POLL_SECONDS": 4, "PGEVENTS_NONSENSE": 1}
    assert Config.from_mapping(mapping, "AUDIT_PGEVENTS").poll_seconds == 4.0
    with pytest.raises(ConfigurationError, match="mean AUDIT_PGEVENTS_POLL_SECONDS"):
        Config.from_mapping({"AUDIT_PGEVENTS_POL_SECONDS": 4}, "AUDIT_PGEVENTS")


@pytest.mark.parametrize("value", ["15", True, None, [1], float("nan"), float("inf"), -1, 1j])
def test_a_number_is_a_finite_number_and_not_too_small(value: Any) -> None:
    for name in NUMBERS:
        with pytest.raises(ConfigurationError, match=f"PGEVENTS_{name.upper()} must be"):
            read(**{name: value})


@pytest.mark.parametrize("name", [f.name for f in fields(Config) if f.type == "int"])
def test_a_count_is_no_fraction(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a whole number"):
        read(**{name: 5000.5})


@pytest.mark.parametrize("value", ["true", 1, 0, None])
def test_a_switch_is_a_bool(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="PGEVENTS_AUTOSTART must be True or False"):
        read(autostart=value)


@pytest.mark.parametrize("value", ["https://a.example", ["https://a.example", 3], None, 5])
def test_origins_are_a_list_of_texts(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="PGEVENTS_ALLOWED_ORIGINS must be a list of strings"):
        read(allowed_origins=value)


@pytest.mark.parametrize("origin", ["*", "https://*.example", "https://*"])
def test_a_wildcard_is_refused_with_its_cure(origin: str) -> None:
    with pytest.raises(ConfigurationError, match=r'PGEVENTS_ALLOWED_ORIGINS: .* name each one, as "https://'):
        read(allowed_origins=["https://a.example", origin])


@pytest.mark.parametrize(
    "origin",
    ["null", "", "a.example", "https://a.example/", "https://A.example", "https://a.example:443", "http://a.example:80",
     "https://a.example/path", "https://user@a.example", "https://a.example ", "https://a.example?x", "//a.example"],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="is not an origin as browsers send it"):
        read(allowed_origins=[origin])


def test_origins_as_browsers_send_them() -> None:
    origins = (
        "https://a.example", "http://127.0.0.1:5000", "http://[::1]:8080", "chrome-extension://abcdef",
        "https://xn--bcher-kva.example:8443",
    )  # fmt: skip
    assert read(allowed_origins=origins).allowed_origins == origins


@pytest.mark.parametrize("value", ["yes", True, None, ["auto"]])
def test_install_is_one_of_three_words(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"PGEVENTS_INSTALL must be one of 'auto', 'verify', 'off'"):
        read(install=value)


@pytest.mark.parametrize("value", ["listen", True, None, ["poll"]])
def test_wakeup_is_one_of_two_words(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"PGEVENTS_WAKEUP must be one of 'notify', 'poll'"):
        read(wakeup=value)


def test_a_wrong_database_url_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="PGEVENTS_DATABASE_URL must be") as caught:
        read(database_url={"url": "postgresql://u:s3cret@h/d"})
    assert "s3cret" not in str(caught.value)


def test_the_settings_do_not_change_afterwards() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().poll_seconds = 3.0  # type: ignore[misc]
