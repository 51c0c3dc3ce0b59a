"""Follower: one stream that a test reads step by step; whatever does not come within a socket's timeout fails it."""

from __future__ import annotations

from typing import Any

from tests.fixtures.clients import SseReader


class Follower(SseReader):
    """A stream, ready. Use it as a context manager.

    :param since: the cursor that it names.
    """

    def __init__(self, port: int, table: str = "orders", since: str = "") -> None:
        super().__init__(port, [table], since)
        try:
            self.until("ready")
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: Any) -> None:
        self.sock.close()

    def until(self, name: str) -> None:
        """Read until this was heard."""
        while name not in self.others:
            assert self.read(), self.others

    def until_key(self, key: int) -> None:
        """Read until a change of the row with this key came."""
        while key not in self.keys():
            assert self.read(), (self.keys()[-20:], self.others)

    def until_told(self) -> None:
        """Read until it was said that changes may be missing, or the stream ended with a `bye`."""
        while not self.reasons and not self.bye:
            assert self.read(), self.others

    def keys(self) -> list[int]:
        return [change["pk"]["id"] for change in self.changes]
