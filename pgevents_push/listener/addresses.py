"""Addresses: a host's name is looked up before libpq does it, which would stop the hub."""

from __future__ import annotations

import socket
from typing import Any


def with_addresses(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return connection parameters with the addresses of their host. libpq looks it up without a thought for who else
    is waiting, also in an asynchronous connect. It still gets the name, for certificates."""
    host = parameters.get("host") or ""
    if not host or host.startswith(("/", "@")) or "," in host or parameters.get("hostaddr"):
        return parameters
    addresses = resolve(host)
    if not addresses:
        return parameters  # libpq says best why not
    return {**parameters, "host": ",".join([host] * len(addresses)), "hostaddr": ",".join(addresses)}


def resolve(host: str) -> list[str]:
    """Return the addresses of a host, in the system's order; none when it has none. Cooperative under gevent."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
