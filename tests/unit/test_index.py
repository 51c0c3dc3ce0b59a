"""The index against the brute force: whatever views compare and rows hold, it finds exactly who sees a change."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.event import ChangeEvent
from pgevents_push.hub import Hub, Sight, Subscription, View
from pgevents_push.hub.condition import Condition
from pgevents_push.hub.group import Group
from pgevents_push.hub.index import MOST_KEYS, Index
from tests.fixtures.views import deleted, inserted, seen, too_large, truncated, updated, view

numbers = st.one_of(st.none(), st.integers(0, 3))
rows = st.fixed_dictionaries(
    {
        "id": st.integers(0, 3),
        "owner_id": numbers,
        "status": st.sampled_from(["a", "b", None]),
        "total": st.one_of(numbers, st.sampled_from([0.5, 1.0])),
        "secret": st.just("canary"),
    }
)
terms = st.one_of(
    st.builds("{}.eq.{}".format, st.sampled_from(["id", "owner_id", "total"]), st.integers(0, 3)),
    st.builds("{}.in.({},{})".format, st.sampled_from(["id", "owner_id"]), st.integers(0, 3), st.integers(0, 3)),
    st.builds("status.{}.{}".format, st.sampled_from(["eq", "neq", "not.eq"]), st.sampled_from(["a", "b"])),
    st.builds("{}.{}.{}".format, st.sampled_from(["total", "id"]), st.sampled_from(["gt", "lte"]), st.integers(0, 3)),
    st.builds("{}.{}is.null".format, st.sampled_from(["owner_id", "status"]), st.sampled_from(["", "not."])),
)
groups = st.builds(
    lambda word, parts: f"{word}({','.join(parts)})",
    st.sampled_from(["and", "or", "not.and", "not.or"]),
    st.lists(terms, min_size=1, max_size=2),  # three of them: a filter has at most eight terms
)
filters = st.one_of(
    st.just(""),
    terms.map(lambda term: term.replace(".", "=", 1)),
    st.builds(
        lambda word, parts: f"{word}=({','.join(parts)})",
        st.sampled_from(["and", "or"]),
        st.lists(st.one_of(terms, groups), min_size=1, max_size=3),
    ),
)
kinds: st.SearchStrategy[Any] = st.sampled_from(["insert", "update", "delete"])
events = st.one_of(
    rows.map(inserted),
    rows.map(deleted),
    st.builds(updated, rows, rows).filter(lambda event: event.old),
    st.builds(lambda kind, pk: too_large(kind, pk, 1, "total"), kinds, st.integers(0, 3)),
    st.builds(truncated),
)


def expected(event: ChangeEvent, look: View) -> Any:
    """Who sees what, without index, sharing or short cuts."""
    if look.condition is None or event.type == "truncate":
        return event.type
    if event.truncated:
        return expected_of_large(event, look.condition)
    now = event.row is not None and look.condition.holds(event.row)
    before_row = {**(event.row or {}), **event.old} if event.old is not None else None
    before = before_row is not None and look.condition.holds(before_row)
    return event.type if before and now else "insert" if now else "delete" if before else None


def expected_of_large(event: ChangeEvent, condition: Condition) -> Any:
    """Only the key is known: judged where it says enough."""
    if condition.columns <= event.pk.keys():
        return event.type if condition.holds(event.pk) else None
    if not all(condition.equalities.values()):
        return None  # a contradiction: of no row
    return None if event.pk["id"] not in condition.equalities.get("id", [event.pk["id"]]) else "gap"


def told(mailbox: Subscription) -> list[Any]:
    return ["gap" if "gap" in frame else frame["type"] for frame in map(seen, mailbox.take(0))]


@settings(max_examples=300, deadline=None)
@given(st.lists(filters, min_size=1, max_size=12), st.lists(events, min_size=1, max_size=6), st.data())
def test_each_view_is_told_what_the_brute_force_says(texts: list[str], changes: list[ChangeEvent], data: Any) -> None:
    hub = Hub()
    hub.publish([], "c0")
    views = [view(text, label=str(n)) for n, text in enumerate(texts)]
    mailboxes = [hub.connect(10**6) for _ in views]
    for look, mailbox in zip(views, mailboxes, strict=True):
        assert hub.subscribe(mailbox, [look], 0) == "c0"
    gone = data.draw(st.sets(st.sampled_from(range(len(views)))))
    for number in gone:
        hub.disconnect(mailboxes[number])
    hub.publish(changes, "c1")
    for number, (look, mailbox) in enumerate(zip(views, mailboxes, strict=True)):
        wanted = [] if number in gone else [kind for event in changes if (kind := expected(event, look))]
        assert told(mailbox) == wanted, (texts[number], changes)
    for mailbox in mailboxes:
        hub.disconnect(mailbox)
    assert not hub._audiences


def filed(*texts: str) -> tuple[Index, list[Group]]:
    index, groups = Index(), [Group(view(text)) for text in texts]
    for group in groups:
        index.add(group)
    return index, groups


def found(index: Index, event: ChangeEvent) -> list[Group]:
    return list(index.concerned(Sight(event, Counter())))


ROW = {"id": 1, "owner_id": 7, "status": "a", "total": 1, "secret": ""}


def test_of_ten_thousand_only_those_concerned_are_looked_at() -> None:
    index, groups = filed(*(f"owner_id=eq.{n}" for n in range(10_000)))
    assert found(index, inserted(ROW)) == [groups[7]]
    assert found(index, updated(ROW, {**ROW, "owner_id": 9})) == [groups[9], groups[7]]
    assert found(index, updated(ROW, {**ROW, "total": 9})) == [groups[7]]


def test_all_equalities_count_so_a_common_value_finds_few() -> None:
    index, groups = filed(*(f"and=(status.eq.a,owner_id.eq.{n})" for n in range(100)))
    assert found(index, inserted(ROW)) == [groups[7]]
    assert found(index, inserted({**ROW, "status": "b"})) == []


def test_what_compares_nothing_for_equality_is_always_looked_at() -> None:
    index, groups = filed("total=gt.5", "owner_id=eq.1", "")
    assert found(index, inserted(ROW)) == [groups[0], groups[2]]


def test_lists_are_filed_under_each_combination_but_not_without_end() -> None:
    lists = ["(" + ",".join(map(str, range(45))) + ")"] * 2
    index, groups = filed(f"and=(owner_id.in.{lists[0]},total.in.{lists[1]},status.in.(a,b))")
    [(columns, drawer)] = index._drawers.items()
    assert len(drawer) == 90 <= MOST_KEYS < 2 * 45 * 45
    assert "status" in [column.name for column in columns]
    assert found(index, inserted(ROW)) == groups
    assert found(index, inserted({**ROW, "status": "c"})) == []


def test_nothing_stays_behind() -> None:
    index, groups = filed("owner_id=eq.1", "owner_id=in.(1,2)", "total=gt.1", "", "and=(owner_id.eq.1,owner_id.eq.2)")
    for group in groups:
        index.remove(group)
    assert (index._drawers, index._always) == ({}, {})
