"""Config: every PGEVENTS_* setting of an app, read once into one frozen object."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin

from pgevents_push.errors import ConfigurationError

Check = Callable[[str, Any], None]


def _setting(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    off: str = "",
    check: Check | None = None,
    secret: bool = False,
) -> Any:
    """Describe a setting: its meaning and how to switch it off go into the README's table, which a test compares.

    :param check: is given the key and the value, and raises ConfigurationError for one that cannot be.
    :param secret: it may hold a password, so nothing that is printed shows it.
    """
    return field(default=default, repr=not secret, metadata={"text": text, "least": least, "off": off, "check": check})


# What browsers send: lower case, no path, no slash at the end (RFC 6454, 6.2).
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[^\s/?#@:*\[\]]+)(:[0-9]+)?")
_DEFAULT_PORTS = (("http://", ":80"), ("https://", ":443"))


def _check_origins(key: str, origins: tuple[str, ...]) -> None:
    """Refuse at start what would let in everybody, or nobody.

    :raises ConfigurationError: one of them is not as a browser sends it.
    """
    for origin in origins:
        if "*" in origin:
            raise ConfigurationError(
                f"{key}: {origin!r} would let pages that you do not know read with the cookies of whoever visits them."
                ' Origins are compared exactly: name each one, as "https://app.example.com".'
            )
        usual = any(origin.startswith(scheme) and origin.endswith(port) for scheme, port in _DEFAULT_PORTS)
        if usual or origin != origin.lower() or not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"{key}: {origin!r} is not an origin as browsers send it: scheme, host and, unless it is the usual one,"
                ' port, in small letters and without a slash at the end, as "https://app.example.com".'
            )


@dataclass(frozen=True)
class Config:
    """The settings. In `app.config` each has the prefix `PGEVENTS_` and capital letters."""

    database_url: str | None = _setting(
        None,
        "where to listen; a direct URL when the app's own goes through a pooler",
        off="`None`: the app's database",
        secret=True,
    )
    install: Literal["auto", "verify", "off"] = _setting(
        "auto", "what a starting process does about missing triggers", off='`"off"`; `"verify"` only complains'
    )
    autostart: bool = _setting(
        True, "start by itself in a process that serves", off="`False`: call `events.start(app)`"
    )
    default_schema: str = _setting("public", "the schema of tables named without one")
    heartbeat_seconds: float = _setting(15.0, "silence after which a stream gets a `sync`", least=0.1)
    poll_seconds: float = _setting(1.0, "how often the log is read although nothing rang", least=0.01)
    wakeup: Literal["notify", "poll"] = _setting(
        "notify",
        "how a new change is noticed; the same in all apps of a database",
        off='`"poll"`: looks each 10 to 250 ms, never NOTIFYs',
    )
    retry_seconds: float = _setting(2.0, "how long a client waits before it reconnects, ± 50 % jitter", least=0.0)
    connect_timeout_seconds: float = _setting(
        10.0, "deadline for a connection to PostgreSQL and for each answer", least=0.1
    )
    lock_timeout_seconds: float = _setting(
        2.0, "how long installing waits for a table's lock, then tries again", least=0.01
    )
    max_row_bytes: int = _setting(1_000_000, "larger rows are captured as key and `truncated`", least=1000)
    retention_seconds: float = _setting(
        3600.0, "how long the log keeps a change at least; takes effect at `flask pgevents install`", least=1.0
    )
    retention_rows: int = _setting(
        1_000_000, "about how many changes it keeps; then the oldest go earlier; as above", least=1000
    )
    max_batch_events: int = _setting(1000, "how many log rows the listener holds at a time", least=1)
    max_queue_bytes: int = _setting(4_000_000, "what may wait for one slow client; then its stream ends", least=1000)
    max_snapshots: int = _setting(
        2, "how many snapshots a process reads at the same time, each on a connection; the others wait", least=1
    )
    snapshot_seconds: float = _setting(
        60.0, "how long the transaction of a snapshot may last; then its stream ends", least=0.1
    )
    history_bytes: int = _setting(
        16_000_000, "recent changes that are kept in memory, for clients that come back soon", least=0, off="`0`"
    )
    handover: bool = _setting(
        True,
        "under gevent a live stream's or socket's connection leaves the server for one greenlet that writes to all",
        off="`False`",
    )
    handler_queue_events: int = _setting(
        10_000, "what may wait for one slow handler; then it misses events, counted", least=1
    )
    send_timeout_seconds: float = _setting(10.0, "how long a WebSocket client may take nothing", least=0.1)
    max_message_bytes: int = _setting(65_536, "the largest message that a WebSocket client may send", least=1000)
    max_subscriptions: int = _setting(32, "how many tables one connection may subscribe to", least=1)
    max_query_bytes: int = _setting(8192, "the longest query of a request", least=100)
    max_connections: int = _setting(
        10_000, "how many streams and sockets each process takes, as far as `ulimit -n` allows; then 503", least=1
    )
    max_connections_per_address: int = _setting(1000, "how many of them from one address; then 429", least=0, off="`0`")
    max_connections_per_identity: int = _setting(
        100, "how many of them for one identity, see `identify`; then 429", least=0, off="`0`"
    )
    max_stream_seconds: float = _setting(
        900.0,
        "the longest life of a stream, ± chance; who comes back is authorised anew",
        least=0.0,
        off="`0`",
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        "other origins whose pages may read here with cookies, exactly as the browser sends them",
        off="`()`",
        check=_check_origins,
    )
    metrics: bool = _setting(False, "`/pgevents/metrics` for Prometheus", off="`False`")

    inspector: bool | None = _setting(
        None, "`/pgevents/inspector`, for developers on this machine", off="`False`; `None`: while `app.debug`"
    )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], prefix: str = "PGEVENTS") -> Config:
        """Read the settings from an app's config.

        :raises ConfigurationError: an unknown key (with the nearest real name) or a bad value.
        """
        known = {f"{prefix}_{f.name.upper()}": f for f in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in mapping.items():
            if key in known:
                values[known[key].name] = _checked(key, value, known[key].type, known[key].metadata)
            elif key.startswith(f"{prefix}_"):
                raise ConfigurationError(_unknown(key, list(known), len(prefix) + 1))
        return cls(**values)


def _unknown(key: str, known: list[str], skip: int) -> str:
    # Without the prefix, which all have in common and which would make any two of them look alike.
    near = difflib.get_close_matches(key[skip:], [name[skip:] for name in known], 1, 0.5)
    hint = f" Did you mean {key[:skip]}{near[0]}?" if near else f" The settings are: {', '.join(known)}."
    return f"Unknown setting {key}.{hint}"


def _checked(key: str, value: Any, annotation: Any, metadata: Mapping[str, Any]) -> Any:
    checked = _of_kind(key, value, annotation, metadata["least"])
    if metadata["check"] is not None:
        metadata["check"](key, checked)
    return checked


def _of_kind(key: str, value: Any, annotation: Any, least: float | None) -> Any:
    kind = _KINDS[str(annotation)]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigurationError(f"{key} must be one of {', '.join(map(repr, get_args(kind)))}, not {value!r}.")
        return value
    if kind is tuple:
        if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(item, str) for item in value):
            raise ConfigurationError(f"{key} must be a list of strings, not {value!r}.")
        return tuple(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        wanted = " or ".join(_WORDS[k] for k in (kind if isinstance(kind, tuple) else (kind,)))
        shown = type(value).__name__ if key.endswith("_URL") else repr(value)  # a URL may hold a password
        raise ConfigurationError(f"{key} must be {wanted}, not {shown}.")
    if least is not None and not (least <= value < math.inf):
        raise ConfigurationError(f"{key} must be at least {least:g} and finite, not {value!r}.")
    return value


# Annotations are strings here (PEP 563); this table gives each its runtime check.
_KINDS: dict[str, Any] = {
    "str | None": (str, type(None)),
    "Literal['auto', 'verify', 'off']": Literal["auto", "verify", "off"],
    "Literal['notify', 'poll']": Literal["notify", "poll"],
    "bool": bool,
    "bool | None": (bool, type(None)),
    "str": str,
    "float": float,
    "int": int,
    "tuple[str, ...]": tuple,
}

_WORDS: dict[type, str] = {
    str: "a text",
    bool: "True or False",
    float: "a number",
    int: "a whole number",
    type(None): "None",
}
