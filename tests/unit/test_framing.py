"""Bodies on the wire: in chunks, or plainly."""

from __future__ import annotations

import pytest

from pgevents_push.transports.framing import Framing


def test_chunks() -> None:
    chunked = Framing(True)
    assert chunked.wrap(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert chunked.last(b"bye") == b"3\r\nbye\r\n0\r\n\r\n"


@pytest.mark.parametrize("chunked", [True, False])
def test_nothing_is_no_chunk(chunked: bool) -> None:
    assert Framing(chunked).wrap(b"") == b"", "an empty chunk would end the body"


def test_until_the_connection_closes() -> None:
    plain = Framing(False)
    assert (plain.wrap(b"one"), plain.last(b"two")) == (b"one", b"two")
