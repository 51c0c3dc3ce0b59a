"""A ticket opens what it was made for, for whom it was made, for a while, and nothing else."""

from __future__ import annotations

import itsdangerous
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.errors import ConfigurationError, Forbidden, Unauthorized
from pgevents_push.transports import ticket as module
from pgevents_push.transports.request import TableRequest, parse_stream
from pgevents_push.transports.ticket import SECONDS, Tickets, forget

KEYS = ["old key", "new key"]


def tickets(*keys: str, purpose: str = "p") -> Tickets:
    return Tickets(keys or KEYS, purpose, "public", 32)


def asked(query: dict[str, list[str]]) -> tuple[TableRequest, ...]:
    return parse_stream(query, None, 32).tables


def test_it_says_whose_it_is() -> None:
    text = tickets().issue("ann", {"table": ["orders"]})
    assert tickets().read(text).identity == "ann"
    assert tickets().read(text).number != tickets().read(tickets().issue("ann", {"table": ["orders"]})).number
    assert len(text) < 200


@pytest.mark.parametrize(
    ("granted", "wanted", "good"),
    [
        ({"table": ["orders"]}, {"table": ["orders"]}, True),
        ({"table": ["orders"]}, {"table": ["public.orders"]}, True),
        ({"table": ["public.orders"]}, {"table": ['"public"."orders"']}, True),
        ({"table": ["orders"]}, {"table": ["secrets"]}, False),
        ({"table": ["orders"]}, {"table": ["other.orders"]}, False),
        ({"table": ["orders"]}, {"table": ["orders", "secrets"]}, False),
        ({"table": ["orders", "lines"]}, {"table": ["lines"]}, True),
        ({"table": ["orders"]}, {"table": ["orders"], "columns": ["id"]}, True),
        ({"table": ["orders"]}, {"table": ["orders"], "events": ["insert"]}, True),
        ({"table": ["orders"], "columns": ["id"]}, {"table": ["orders"]}, False),
        ({"table": ["orders"], "columns": ["id"]}, {"table": ["orders"], "columns": ["id,total"]}, False),
        ({"table": ["orders"], "columns": ["id", "total"]}, {"table": ["orders"], "columns": ["total,id"]}, True),
        ({"table": ["orders"], "events": ["insert"]}, {"table": ["orders"]}, False),
        ({"table": ["orders"], "events": ["insert"]}, {"table": ["orders"], "events": ["insert"]}, True),
        ({"table": ["a", "b"], "columns": ["a.x"]}, {"table": ["b"]}, True),
        ({"table": ["a", "b"], "columns": ["a.x"]}, {"table": ["a"]}, False),
        ({"table": ["orders"]}, {"table": ["a.b.c"]}, False),
    ],
)
def test_it_is_good_for_what_it_names(granted: dict[str, list[str]], wanted: dict[str, list[str]], good: bool) -> None:
    ticket = tickets().read(tickets().issue("ann", granted))

    def check() -> None:
        for table in asked(wanted):
            ticket.check(table)

    if good:
        check()
    else:
        with pytest.raises(Forbidden):
            check()


def test_an_old_key_still_opens_and_the_new_one_signs() -> None:
    assert tickets("old key", "new key").read(tickets("old key").issue("ann", {"table": ["t"]})).identity == "ann"
    assert tickets("new key").read(tickets("old key", "new key").issue("ann", {"table": ["t"]})).identity == "ann"


@pytest.mark.parametrize("other", [tickets("another"), tickets(purpose="q"), Tickets([], "p", "public", 32)])
def test_what_somebody_else_signed_opens_nothing(other: Tickets) -> None:
    text = tickets().issue("ann", {"table": ["t"]})
    with pytest.raises(Unauthorized):
        other.read(text)


def test_it_is_good_for_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    text = tickets().issue("ann", {"table": ["t"]})
    now = itsdangerous.TimestampSigner.get_timestamp(None)  # type: ignore[arg-type]
    for seconds, good in ((SECONDS - 1, True), (SECONDS + 2, False), (-5, False)):
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self, s=seconds: now + s)
        if good:
            assert tickets().read(text).identity == "ann"
        else:
            with pytest.raises(Unauthorized):
                tickets().read(text)


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_no_text_is_anything_but_refused(text: str) -> None:
    with pytest.raises(Unauthorized):
        tickets().read(text)


@settings(deadline=None)
@given(st.data())
def test_a_ticket_that_was_changed_is_refused(data: st.DataObject) -> None:
    text = tickets().issue("ann", {"table": ["orders"]})
    at = data.draw(st.integers(0, len(text) - 2))  # the last letter has bits that mean nothing
    letter = data.draw(st.sampled_from("Aa0_-."))
    changed = text[:at] + letter + text[at + 1 :]
    if changed != text:
        with pytest.raises(Unauthorized):
            tickets().read(changed)


def test_without_a_key_there_is_none_and_it_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"app\.secret_key"):
        Tickets([], "p", "public", 32).issue("ann", {"table": ["t"]})


@pytest.mark.parametrize("query", [{}, {"table": ["t"], "events": ["upsert"]}, {"table": [f"t{n}" for n in range(33)]}])
def test_a_ticket_for_nothing_is_a_mistake(query: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigurationError, match="There can be no such ticket"):
        tickets().issue("ann", query)


def test_servers_are_made_to_forget_it() -> None:
    environ = {
        "QUERY_STRING": "ticket=abc&table=t", "RAW_URI": "/s?table=t&ticket=abc.d-e_f&x=1", "REQUEST_URI": "/s?table=t",
        "PATH_INFO": "/s",
    }  # fmt: skip
    forget(environ)
    assert environ == {
        "QUERY_STRING": "ticket=-&table=t", "RAW_URI": "/s?table=t&ticket=-&x=1", "REQUEST_URI": "/s?table=t",
        "PATH_INFO": "/s",
    }  # fmt: skip
    assert module.PARAMETER == "ticket"
