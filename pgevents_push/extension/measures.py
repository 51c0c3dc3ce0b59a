"""Measures: what one process tells Prometheus; numbers only, no names but those of handlers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from pgevents_push.handlers import Tally
from pgevents_push.hub import Hub
from pgevents_push.listener import Pulse, Status
from pgevents_push.transports.exposition import Measure
from pgevents_push.transports.gate import Gate
from pgevents_push.transports.places import Places

_REFUSED = ("process", "address", "identity", "ticket")
_ENDED = ("revoked", "lifetime")


def of_listener(status: Status, pulse: Pulse, tables: int, captured: int | None) -> Iterator[Measure]:
    """What the ear does."""
    yield _gauge("listener_status", "1 beside the word that /pgevents/health says.", [({"status": status}, 1)])
    if (read := pulse.seconds_since_read) is not None:
        yield _gauge("seconds_since_read", "Since the log was last read to its end.", [({}, read)])
    yield _counter("reconnects", "How often the connection to PostgreSQL was lost.", [({}, pulse.reconnects)])
    yield _gauge("tables", "Tables that are declared.", [({}, tables)])
    if captured is not None:
        yield _gauge("captured_tables", "Tables that are captured.", [({}, captured)])


def of_delivery(hub: Hub, places: Places) -> Iterator[Measure]:
    """What the post room does."""
    yield _counter("changes", "Changes that were read and handed on.", [({}, hub.counts["events"])])
    yield _counter("deliveries", "Changes that were put into a mailbox.", [({}, hub.counts["deliveries"])])
    yield _counter(
        "overflows", "Connections that were ended because they were too slow.", [({}, hub.counts["overflows"])]
    )
    occupied = places.occupied()
    kinds = ("sse", "websocket", "snapshot")
    yield _gauge("connections", "Connections that are open.", [({"kind": kind}, occupied[kind]) for kind in kinds])
    yield _counter("refused", "Connections that were refused.", _by("why", places.counts, "refused_", _REFUSED))
    yield _counter("ended", "Connections that we ended.", _by("why", places.counts, "ended_", _ENDED))


def of_gate(gate: Gate) -> Iterator[Measure]:
    """What authorize says."""
    yield _counter("denied", "Subscriptions that authorize denied.", [({}, gate.counts["denied"])])
    failures = gate.counts["authorize_failures"]
    yield _counter("authorize_failures", "Subscriptions that were denied because it failed.", [({}, failures)])


def of_handlers(tallies: Iterable[Tally]) -> Iterator[Measure]:
    """What the app's own functions do."""
    samples = [
        ({"handler": tally.handler, "what": what}, count)
        for tally in tallies
        for what, count in sorted(tally.counts.items())
    ]
    yield _counter("handler_events", "Changes that handlers got, by what became of them.", samples)


def _by(label: str, counts: Counter[str], prefix: str, names: Iterable[str]) -> list[tuple[dict[str, str], float]]:
    return [({label: name}, counts[prefix + name]) for name in names]


def _gauge(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Measure:
    return Measure(f"pgevents_{name}", "gauge", text, tuple(samples))


def _counter(name: str, text: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Measure:
    return Measure(f"pgevents_{name}_total", "counter", text, tuple(samples))
