"""What a client asks for is read once; what is wrong with it is named, and nothing was evaluated."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from pgevents_push.errors import BadParameter, NotExposed, RequestError, Unavailable
from pgevents_push.event import CHANGE_TYPES
from pgevents_push.transports.problem import problem
from pgevents_push.transports.request import StreamRequest, TableRequest, parse_stream

ALL = frozenset(CHANGE_TYPES)


def parse(query: str, header: str | None = None, most: int = 5) -> StreamRequest:
    pairs = [part.partition("=") for part in query.split("&") if part]
    given = MultiDict([(name, value) for name, _, value in pairs])
    return parse_stream(dict(given.lists()), header, most)


@pytest.mark.parametrize("query", ["table=a&table=b", "table=a,b", "table=a,&table=b,a"])
def test_several_tables_in_either_spelling_each_once(query: str) -> None:
    assert parse(query).tables == (TableRequest("a", ALL, None), TableRequest("b", ALL, None))


def test_events() -> None:
    assert parse("table=a&events=insert,update&events=delete").tables[0].types == ALL - {"truncate"}


def test_columns_for_all_tables_and_for_one() -> None:
    one, other = parse("table=s.a,b&columns=id,s.a.x&columns=b.y").tables
    assert (one.columns, other.columns) == (frozenset({"id", "x"}), frozenset({"id", "y"}))


def test_columns_of_one_table_leave_the_other_whole() -> None:
    one, other = parse("table=a,b&columns=a.x").tables
    assert (one.columns, other.columns) == (frozenset({"x"}), None)


@pytest.mark.parametrize("name", ["lastEventId", "last_event_id", "lastEventID"])
def test_the_cursor_in_the_query_has_three_spellings(name: str) -> None:
    assert parse(f"table=a&{name}=c1").cursor == "c1"
    assert parse(f"table=a&{name}=").cursor is None


def test_the_header_wins_over_the_query() -> None:
    assert parse("table=a&lastEventId=old", "new").cursor == "new"
    assert parse("table=a&lastEventId=old", "").cursor == "old"
    assert parse("table=a").cursor is None


def test_filters_for_all_tables_and_for_one() -> None:
    one, other = parse("table=s.a,b&filter=x=eq.1&filter=s.a.y=eq.2&filter=b.z=in.(1,2)").tables
    assert (one.filters, other.filters) == (("x=eq.1", "y=eq.2"), ("x=eq.1", "z=in.(1,2)"))
    assert parse("table=a").tables[0].filters == ()


def test_a_filter_may_name_the_only_table() -> None:
    [table] = parse("table=orders&filter=orders.status=eq.open").tables
    assert table.filters == ("status=eq.open",)


def test_groups_may_be_parameters_of_their_own() -> None:
    one, other = parse("table=a,b&or=(x.eq.1,y.eq.2)&not.and=(z.eq.3)&b.or=(w.is.null)&filter=and=(v.eq.1)").tables
    assert one.filters == ("and=(v.eq.1)", "or=(x.eq.1,y.eq.2)", "not.and=(z.eq.3)")
    assert other.filters == (*one.filters, "or=(w.is.null)")


def test_a_group_of_another_table_is_no_parameter() -> None:
    with pytest.raises(BadParameter, match=r"'c\.or' is not a parameter"):
        parse("table=a&c.or=(x.eq.1)")


def test_formats() -> None:
    assert parse("table=a").format == "json"
    assert parse("table=a&format=message").format == "message"


def test_a_parameter_against_caches_is_let_through() -> None:
    assert parse("table=a&_=1732370000").tables[0].table == "a"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "table is missing"),
        ("table=", "table is missing"),
        ("table=,", "table is missing"),
        ("table=a,b,c,d,e,f", "6 tables in one stream, at most 5"),
        ("table=a&events=", "events: name at least one"),
        ("table=a&events=upsert", "events: 'upsert' is not one of insert, update"),
        ("table=a&events=INSERT", "events: 'INSERT' is not"),
        ("table=a&columns=", "columns: name at least one"),
        ("table=a&format=xml", "format: 'xml' is not one of json, message"),
        ("table=a&tabel=b", "'tabel' is not a parameter. Did you mean table?"),
        ("table=a&event=insert", "Did you mean events?"),
        ("table=a&zzz=1", "The parameters are table, events, columns, filter, format, snapshot, limit, lastEventId"),
        ("table=a&columns=" + ",".join(f"c{n}" for n in range(301)), "columns: 301 names, at most 300 are allowed"),
        ("table=a" + "&filter=id=eq.1" * 9, "filter: 9 filters, at most 8 for each table are allowed"),
        ("table=a&snapshot=yes", "snapshot: 'yes' is not 1"),
        ("table=a&limit=5", "limit: it is for the rows of a snapshot"),
        ("table=a&snapshot=1&limit=0", "limit: '0' is not a whole number"),
        ("table=a&snapshot=1&limit=-1", "limit: '-1' is not"),
        ("table=a&snapshot=1&limit=1e3", "limit: '1e3' is not"),
        ("table=a&snapshot=1&limit=9999999999", "limit: '9999999999' is not"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, text: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse(query)
    assert text in str(caught.value)


names = st.sampled_from(["table", "events", "columns", "format", "x", "lastEventId"]) | st.text(max_size=5)
queries = st.dictionaries(names, st.lists(st.text(max_size=200), min_size=1, max_size=3))


def refusal(query: dict[str, list[str]]) -> RequestError | None:
    try:
        parse_stream(query, None, 3)
    except RequestError as error:
        return error
    return None


@settings(max_examples=30, deadline=None)
@given(queries)
def test_no_query_gives_anything_but_an_answer_or_a_short_refusal(query: dict[str, list[str]]) -> None:
    if error := refusal(query):
        assert len(str(error)) < 300
        assert json.loads(problem(error).get_data())["status"] == 400


def test_a_problem_is_problem_json() -> None:
    response = problem(Unavailable("The cap is reached.", retry_after=7))
    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
    assert (response.headers["Retry-After"], response.headers["Cache-Control"]) == ("7", "no-store")
    assert response.get_json() == {
        "type": "about:blank", "title": "Service unavailable", "status": 503, "detail": "The cap is reached.",
    }  # fmt: skip
    assert "Retry-After" not in problem(NotExposed()).headers
