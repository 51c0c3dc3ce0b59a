"""The doorbell: how a listener that has read everything learns that there is more.

Every writing transaction rings once, with an empty NOTIFY on one channel. The bell carries nothing: it is
not secret, anybody may ring it, and it may get lost. So it only ever means "look into the log", and the
log is looked into every `poll_seconds` anyway.
"""

from __future__ import annotations

from pgevents_push.listener.connection import Connection

CHANNEL = "pgevents"


class Doorbell:
    """The bell of one connection."""

    def __init__(self, connection: Connection, poll_seconds: float) -> None:
        self._connection = connection
        self._poll_seconds = poll_seconds

    def hang(self) -> None:
        """LISTEN. Only what is committed after this is rung for: read the log after it, not before."""
        self._connection.execute(f"LISTEN {CHANNEL}")

    def is_hanging(self) -> bool:
        """Whether the server still knows of our LISTEN: the one check that notices a hung server, a dead
        network and a transaction pooler alike."""
        return (CHANNEL,) in self._connection.execute("SELECT pg_listening_channels()")

    def wait(self) -> bool:
        """Sleep until it rings, or for `poll_seconds`; return whether it rang."""
        return self._connection.wait(self._poll_seconds)
