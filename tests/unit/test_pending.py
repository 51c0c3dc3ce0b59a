"""Frames that wait for a judge keep their place: nobody is overtaken, and nobody else waits."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pgevents_push.errors import ConnectionLost
from pgevents_push.extension import judging
from pgevents_push.extension.judging import Judging
from pgevents_push.hub import Hub, Pending, Persona, Sight, Subscription, View, look
from tests.fixtures.patience import wait_until
from tests.fixtures.views import deleted, inserted, seen, too_large, truncated, updated, view

ANN, BOB = Persona("web", (("app.user", "ann"),)), Persona("web", (("app.user", "bob"),))
ROW = {"id": 1, "owner_id": 7, "status": "open", "total": 5, "secret": ""}
MANY = 10**6


class Judge:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.line: list[Pending] = []

    def put(self, pending: Sequence[Pending]) -> None:
        self.line += pending

    answer = put

    def say(self, before: bool = True, now: bool = True) -> None:
        self.line.pop(0).judge(before, now)


def row(number: int) -> dict[str, Any]:
    return {**ROW, "id": number}


def change(number: int) -> Any:
    return inserted(row(number), number)


class World:
    def __init__(self) -> None:
        self.judge = Judge()
        self.hub = Hub(judge=self.judge)
        self.hub.publish([], "c0")

    def join(self, *views: View, max_bytes: int = MANY) -> Subscription:
        mailbox = self.hub.connect(max_bytes)
        assert self.hub.subscribe(mailbox, views, 0) is not None
        return mailbox


def got(mailbox: Subscription) -> list[tuple[str, int]]:
    return [(frame["type"], frame["pk"].get("id", 0)) for frame in map(seen, mailbox.take(0))]


def test_what_comes_later_waits_behind_it_and_others_do_not() -> None:
    world = World()
    both = world.join(view("id=lt.3", persona=ANN), view("id=gt.2", label="free"))
    free = world.join(view("id=gt.2", label="free"))
    world.hub.publish([change(1), change(3), change(2), change(4)], "c4")
    assert got(free) == [("insert", 3), ("insert", 4)]
    assert got(both) == []
    assert world.hub.position(both) is None, "the cursor must not pass what is not told yet"
    world.judge.say()
    assert got(both) == [("insert", 1), ("insert", 3)]
    world.judge.say(now=False)
    assert got(both) == [("insert", 4)]
    assert world.hub.position(both) == "c4"


def test_the_answer_wakes_who_waits() -> None:
    world = World()
    mailbox = world.join(view(persona=ANN))
    world.hub.publish([change(1)], "c1")
    found: list[bytes] = []

    def wait() -> None:
        while not found:
            found.extend(mailbox.take(10))

    thread = threading.Thread(target=wait)
    thread.start()
    world.judge.say()
    thread.join(30)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("event", "before", "now", "expected"),
    [
        (updated(ROW, {**ROW, "total": 6}), True, True, "update"),
        (updated(ROW, {**ROW, "total": 6}), False, True, "insert"),
        (updated(ROW, {**ROW, "total": 6}), True, False, "delete"),
        (updated(ROW, {**ROW, "total": 6}), False, False, None),
        (inserted(ROW), False, True, "insert"),
        (inserted(ROW), True, False, None),
        (deleted(ROW), True, False, "delete"),
        (deleted(ROW), False, True, None),
        (updated(ROW, {**ROW, "owner_id": 8}), True, True, "delete"),
        (updated({**ROW, "owner_id": 8}, ROW), True, True, "insert"),
        (updated({**ROW, "owner_id": 8}, ROW), True, False, None),
    ],
)
def test_both_the_condition_and_the_judge_must_let_it_through(
    event: Any, before: bool, now: bool, expected: str | None
) -> None:
    pending = look(Sight(event, Counter()), view("owner_id=eq.7", persona=ANN))
    assert isinstance(pending, Pending)
    pending.judge(before, now)
    found = seen(pending.frame)
    assert (found and found["type"]) == expected
    if expected == "insert":
        assert found["old"] is None


def test_nobody_is_asked_about_what_is_not_wanted_anyhow() -> None:
    look_at = view("owner_id=eq.8", persona=ANN)
    assert look(Sight(inserted(ROW), Counter()), look_at) is None
    assert look(Sight(updated(ROW, {**ROW, "total": 6}), Counter()), look_at) is None
    assert look(Sight(inserted(ROW), Counter()), view("", "delete", persona=ANN)) is None
    assert isinstance(look(Sight(truncated(), Counter()), look_at), bytes)
    assert isinstance(look(Sight(too_large("insert", 1), Counter()), look_at), Pending)


def test_without_a_judge_it_is_a_gap() -> None:
    hub = Hub()
    hub.publish([], "c0")
    mailbox = hub.connect(MANY)
    hub.subscribe(mailbox, [view(persona=ANN)], 0)
    hub.publish([change(1)], "c1")
    assert [seen(frame) for frame in mailbox.take(0)] == [{"gap": "schema"}]


def test_a_slow_judge_overflows_the_mailbox_and_not_the_memory() -> None:
    world = World()
    mailbox = world.join(view(persona=ANN), max_bytes=1000)
    world.hub.publish([change(n) for n in range(1, 20)], "c1")
    assert mailbox.closed == "overflow"
    assert mailbox.queued_bytes <= 1000


def test_it_moves_with_the_others_into_another_mailbox() -> None:
    world = World()
    own, common = world.join(view(persona=ANN)), world.join(view("", label="x"))
    world.hub.publish([change(1)], "c1")
    world.hub.hand_over(view(persona=ANN), own, common)
    world.hub.publish([change(2)], "c2")
    assert got(common) == [("insert", 1)]
    assert got(common) == [], "the second one of the free view stands behind the first one of the other"
    world.judge.say()
    world.judge.say()
    assert [number for _, number in got(common)] == [1, 2, 2]


class AnsweredEarly(Pending):
    """One that another thread answers in the moment before it is watched, when its courier sleeps again."""

    mailbox: Subscription

    def watch(self, watcher: Callable[[], None]) -> None:
        wait_until(lambda: bool(self.mailbox._awake._cond._waiters))  # type: ignore[attr-defined]
        self.judge(True, True)
        super().watch(watcher)


def test_an_answer_that_comes_just_before_it_is_watched_wakes_who_waits() -> None:
    mailbox, found = Subscription(MANY), list[bytes]()
    early = AnsweredEarly(Sight(change(1), Counter()), view(persona=ANN), ANN)
    early.mailbox = mailbox

    def wait() -> None:
        while not found:
            found.extend(mailbox.take(60))

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    mailbox.put(early)
    thread.join(30)
    assert len(found) == 1


def test_equal_personas_are_one_group() -> None:
    world = World()
    mailboxes = [world.join(view(persona=persona)) for persona in (ANN, ANN, BOB)]
    world.hub.publish([change(1)], "c1")
    assert [one.persona for one in world.judge.line] == [ANN, BOB]
    world.judge.say()
    assert [len(mailbox.take(0)) for mailbox in mailboxes] == [1, 1, 0]


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"role": ""}, {"role": "None"}, {"role": 5}, {"role": "a\0"}, {"role": "web", "setting": {}}, ["web"],
        {"role": "web", "settings": {"role": "x"}}, {"role": "web", "settings": {"a.b": True}},
        {"role": "web", "settings": {"a b.c": "x"}}, {"role": "web", "settings": {"a.b": "\0"}},
    ],
)  # fmt: skip
def test_what_is_no_persona(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        Persona.of(answer)


def test_a_persona_does_not_depend_on_the_order_of_its_settings() -> None:
    one = Persona.of({"role": "web", "settings": {"a.b": 1, "c.d": "x"}})
    assert one == Persona.of({"role": "web", "settings": {"c.d": "x", "a.b": "1"}})
    assert one.settings == (("a.b", "1"), ("c.d", "x"))


# --- The line before the judge


class Security:
    """Stands in for RowSecurity, which asks a database."""

    instances: list[Security]

    def __init__(self, connect: Any) -> None:
        self.instances.append(self)
        self.closed = False
        self.plan: list[Any] = []

    def answer(self, pending: Sequence[Pending]) -> None:
        problem = self.plan.pop(0) if self.plan else None
        if isinstance(problem, Exception):
            raise problem
        for one in pending:
            one.judge(True, True)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Any:
    Security.instances = []
    monkeypatch.setattr(judging, "RowSecurity", Security)
    monkeypatch.setattr(judging, "RETRY_SECONDS", 0.01)
    made = Judging(lambda: None)  # type: ignore[arg-type, return-value]
    yield made
    made.stop()


def pending(number: int) -> Pending:
    return Pending(Sight(change(number), Counter()), view(persona=ANN), ANN)


def test_a_database_that_is_away_is_waited_for(line: Judging) -> None:
    first = pending(1)
    line.put([first])
    wait_until(lambda: first.is_ready)
    [security] = Security.instances
    security.plan = [ConnectionLost("gone"), ConnectionLost("gone")]
    later = [pending(2), pending(3)]
    line.put(later)
    wait_until(lambda: all(one.is_ready for one in later))
    assert all(one.frame for one in later)


def test_a_bug_is_a_gap_for_those_and_the_next_go_on(line: Judging, caplog: pytest.LogCaptureFixture) -> None:
    first = pending(1)
    line.put([first])
    wait_until(lambda: first.is_ready)
    Security.instances[0].plan = [KeyError("a bug")]
    broken, later = pending(2), pending(3)
    line.put([broken])
    wait_until(lambda: broken.is_ready)
    line.put([later])
    wait_until(lambda: later.is_ready)
    assert seen(broken.frame) == {"gap": "schema"}
    assert seen(later.frame)["type"] == "insert"
    assert "changes could not be judged" in caplog.text


def test_it_ends_with_its_connections(line: Judging) -> None:
    first = pending(1)
    line.put([first])
    line.answer([pending(2)])
    wait_until(lambda: first.is_ready)
    line.stop()
    assert [security.closed for security in Security.instances] == [True, True]
    line.put([pending(3)])
    line.stop()
    assert len(Security.instances) == 2
