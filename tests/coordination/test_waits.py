"""Who can never go on: shown as a circle."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.coordination import waits
from reconciler.resources.lock import Holder, Lock, LockSpec, LockStatus, Waiter
from reconciler.resources.meta import Metadata

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def lock(name: str, holders: str = "", waiting: str = "", most: int = 1, within: dict[str, str] | None = None) -> Lock:
    def outer(id: str) -> tuple[str, ...]:
        return tuple((within or {}).get(id, "").split())

    held = tuple(Holder(id=id, name=id, within=outer(id), since=NOW, token=1) for id in holders.split())
    line = tuple(Waiter(id=id, name=id, within=outer(id), since=NOW) for id in waiting.split())
    spec = LockSpec(max_holders=most)
    return Lock(metadata=Metadata(name=name), spec=spec, status=LockStatus(holders=held, waiting=line))


def test_who_waits_for_somebody_who_runs_is_in_no_deadlock() -> None:
    assert waits.deadlocked([lock("db", "a", "b c")]) == set()


def test_fault_K9_two_that_wait_for_each_other_are_shown_as_a_circle() -> None:
    locks = [lock("db", "a", "b"), lock("ui", "b", "a")]

    assert waits.deadlocked(locks) == {"a", "b"}
    assert waits.circle(locks) == "a waits for lock/ui, held by b; b waits for lock/db, held by a"


def test_fault_K9_a_command_within_a_holder_that_asks_for_the_same_lock_waits_for_itself() -> None:
    locks = [lock("db", "outer", "inner", within={"inner": "outer"})]

    assert waits.deadlocked(locks) == {"outer", "inner"}
    assert waits.circle(locks) == "inner waits for lock/db, held by outer"


def test_two_nested_in_opposite_order_wait_for_each_other() -> None:
    locks = [lock("db", "a", "b2", within={"b2": "b"}), lock("ui", "b", "a2", within={"a2": "a"})]

    assert waits.deadlocked(locks) == {"a", "a2", "b", "b2"}


def test_one_of_several_holders_that_runs_is_enough_to_go_on() -> None:
    assert waits.deadlocked([lock("db", "a c", "b", most=2), lock("ui", "b", "a")]) == set()


def test_who_waits_where_there_is_room_is_about_to_be_served() -> None:
    assert waits.deadlocked([lock("db", "", "a"), lock("ui", "a", "")]) == set()


def test_children_that_wait_for_each_others_lock_within_one_holder_are_in_no_deadlock() -> None:
    assert waits.deadlocked([lock("build", "top"), lock("db", "c1", "c2", within={"c1": "top", "c2": "top"})]) == set()


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sets(st.sampled_from("abcde"))), max_size=5))
def test_a_deadlock_is_what_remains_when_everybody_who_can_goes_on(given: list[tuple[str, set[str]]]) -> None:
    locks = [lock(f"l{i}", holder, " ".join(sorted(line - {holder}))) for i, (holder, line) in enumerate(given)]
    left = list(locks)
    while True:  # let anybody go on who waits for nothing: gives back all it holds
        waiting = {one.id for one in (w for item in left for w in item.status.waiting)}
        done = [item for item in left if item.status.holders[0].id not in waiting]
        if not done:
            break
        left = [item for item in left if item not in done]

    stuck = {w.id for item in left for w in item.status.waiting}
    assert waits.deadlocked(locks) == stuck
