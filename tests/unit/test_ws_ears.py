"""What a client says, byte by byte: messages, answers, ends and allowances; and that silence is forgotten."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import Pong

from pgevents_push.transports.ws_ears import Ears, Heard
from pgevents_push.transports.ws_flood import FORGOTTEN_SECONDS
from tests.fixtures.ws_client import client_frame

MOST = 100_000


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def code_of(heard: Heard) -> int:
    assert heard.goodbye is not None
    assert heard.goodbye[0] == 0x88
    return int(struct.unpack("!H", heard.goodbye[2:4])[0])


def pongs(data: bytes) -> list[bytes]:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return [bytes(event.payload) for event in client.events() if isinstance(event, Pong)]


words = st.text(max_size=300)


@given(
    st.lists(st.tuples(st.lists(words, min_size=1, max_size=4), st.booleans()), max_size=8),
    st.lists(st.integers(1, 700), min_size=1),
)
def test_messages_are_whole_and_in_order_however_they_are_cut(
    said: list[tuple[list[str], bool]], cuts: list[int]
) -> None:
    """Into fragments, with pings in between, and into reads."""
    data = b""
    for parts, with_ping in said:
        for number, part in enumerate(parts):
            first = (0x80 if number == len(parts) - 1 else 0) | (0 if number else 1)
            data += client_frame(first, part.encode())
            data += client_frame(0x89, b"?") if with_ping else b""
    ears, messages, answers, at, number = Ears(MOST), [], b"", 0, 0
    while at < len(data):
        heard = ears.hear(data[at : at + cuts[number % len(cuts)]])
        at, number = at + cuts[number % len(cuts)], number + 1
        assert heard.goodbye is None
        messages += heard.messages
        answers += heard.answer
    assert messages == ["".join(parts) for parts, _ in said]
    assert pongs(answers) == [b"?"] * sum(len(parts) for parts, with_ping in said if with_ping)
    assert ears._parser is None


@given(st.binary(max_size=400), st.integers(1, 100))
def test_nonsense_never_raises(data: bytes, cut: int) -> None:
    ears = Ears(MOST)
    for at in range(0, len(data), cut):
        if ears.hear(data[at : at + cut]).goodbye is not None:
            return


def test_binary_messages_are_joined_too() -> None:
    ears = Ears(MOST)
    heard = ears.hear(client_frame(0x02, b"a") + client_frame(0x00, b"b") + client_frame(0x80, b"c"))
    assert heard.messages == [b"abc"]


def test_a_close_is_answered_with_its_own_code() -> None:
    heard = Ears(MOST).hear(client_frame(0x81, b"{}") + client_frame(0x88, struct.pack("!H", 3333) + b"why"))
    assert code_of(heard) == 3333
    assert Ears(MOST).hear(client_frame(0x88, b"")).goodbye == b"\x88\x00"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xff" * 100, 1002),
        (client_frame(0xC1, b"x"), 1002),
        (client_frame(0x81, b"\xff"), 1007),
        (client_frame(0x88, b"\x03"), 1002),
        (client_frame(0x81, b"x" * (MOST + 1)), 1009),
        (client_frame(0x01, b"x" * MOST) + client_frame(0x00, b"x"), 1009),
        (client_frame(0x81, b"{}") * 257, 1008),
        (client_frame(0x8A, b"") * 513, 1008),
        (client_frame(0x01, b"x") + client_frame(0x00, b"x") * 512, 1008),
    ],
)
def test_what_may_not_be_ends_the_connection(data: bytes, code: int) -> None:
    assert code_of(Ears(MOST).hear(data)) == code


def test_too_many_bytes_are_a_flood_before_they_are_parsed() -> None:
    ears = Ears(1000, Clock())
    assert [ears.hear(client_frame(0x81, b"x" * 900)).goodbye for _ in range(4)] == [None] * 4
    assert code_of(ears.hear(client_frame(0x81, b"x" * 900))) == 1008


def test_a_long_silence_is_forgotten_but_not_in_the_middle() -> None:
    clock = Clock()
    ears = Ears(MOST, clock)
    ears.hear(client_frame(0x81, b"{}"))
    assert not ears.is_forgettable(FORGOTTEN_SECONDS - 1)
    assert ears.is_forgettable(FORGOTTEN_SECONDS + 1)
    for half in (client_frame(0x81, b"{}")[:-1], client_frame(0x01, b"{"), client_frame(0x01, b""), b"\x81"):
        ears = Ears(MOST, clock)
        ears.hear(half)
        assert not ears.is_forgettable(FORGOTTEN_SECONDS + 1)


def test_what_is_forgotten_was_whole_again() -> None:
    """Else a client could flood a little, wait, and flood again."""
    clock = Clock()
    ears = Ears(MOST, clock)
    ears.hear(client_frame(0x81, b"{}") * 256)
    clock.now = FORGOTTEN_SECONDS
    assert ears.hear(client_frame(0x81, b"{}") * 256).goodbye is None


def test_fragments_may_show_nothing() -> None:
    """Of which the parser's whole knowledge is that there was one."""
    ears = Ears(MOST)
    assert ears.hear(client_frame(0x01, b"")) == ([], b"", None)
    assert ears.hear(client_frame(0x00, b"\xc3")) == ([], b"", None)
    assert ears.hear(client_frame(0x80, b"\xa4")).messages == ["\N{LATIN SMALL LETTER A WITH DIAERESIS}"]
