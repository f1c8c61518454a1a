"""The contract of the work queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.resources.meta import Key
from reconciler.runtime.workqueue import LONGEST_RETRY_S, WorkQueue

T0 = datetime(2026, 1, 1, tzinfo=UTC)
WEB, DB = Key("Pool", "web"), Key("Pool", "db")


def test_a_key_asked_for_ten_times_is_planned_once() -> None:
    queue = WorkQueue()
    for _ in range(10):
        queue.add(WEB)
    assert queue.take(T0) == WEB
    assert queue.take(T0) is None


def test_a_key_is_never_planned_twice_at_once_and_what_comes_meanwhile_makes_one_more_run() -> None:
    queue = WorkQueue()
    queue.add(WEB)
    assert queue.take(T0) == WEB
    queue.add(WEB)
    queue.add(WEB)
    assert queue.take(T0) is None
    queue.done(WEB)
    assert queue.take(T0) == WEB
    queue.done(WEB)
    assert queue.take(T0) is None


def test_fault_C31_a_key_that_fails_for_ever_waits_longer_and_longer_and_delays_nobody() -> None:
    queue = WorkQueue()
    now = T0
    waits = []
    for _ in range(30):
        queue.add(WEB)
        queue.add(DB)
        taken = {queue.take(now), queue.take(now)}
        assert taken == {WEB, DB}
        queue.done(DB)
        again = queue.failed(WEB, now)
        waits.append((again - now).total_seconds())
        now = again
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_RETRY_S
    queue.add(WEB)
    queue.take(now)
    queue.done(WEB)  # a success forgets the failures
    queue.add(WEB)
    queue.take(now)
    assert (queue.failed(WEB, now) - now).total_seconds() == waits[0]


def test_the_earliest_moment_asked_for_counts() -> None:
    queue = WorkQueue()
    queue.add_at(WEB, T0 + timedelta(seconds=9))
    queue.add_at(WEB, T0 + timedelta(seconds=3))
    queue.add_at(WEB, T0 + timedelta(seconds=5))
    assert queue.next_at == T0 + timedelta(seconds=3)
    assert queue.take(T0 + timedelta(seconds=2)) is None
    assert queue.take(T0 + timedelta(seconds=3)) == WEB
    queue.done(WEB)
    assert queue.next_at is None
    assert queue.take(T0 + timedelta(seconds=99)) is None


@given(st.lists(st.tuples(st.sampled_from("ato"), st.integers(0, 3), st.integers(0, 50))))
def test_nothing_asked_for_is_ever_forgotten(steps: list[tuple[str, int, int]]) -> None:
    queue = WorkQueue()
    keys = [Key("Pool", f"p{i}") for i in range(4)]
    at_once: set[Key] = set()
    later: dict[Key, datetime] = {}
    now = T0

    def drain() -> set[Key]:
        taken = set()
        while (key := queue.take(now)) is not None:
            assert key not in taken
            taken.add(key)
            queue.done(key)
        return taken

    for what, which, seconds in [*steps, ("o", 0, 100)]:
        key = keys[which]
        if what == "a":
            queue.add(key)
            at_once.add(key)
        elif what == "t":
            at = now + timedelta(seconds=seconds)
            queue.add_at(key, at)
            later[key] = min(at, later.get(key, at))
        else:
            now += timedelta(seconds=seconds)
            assert drain() == at_once | {key for key, at in later.items() if at <= now}
            at_once.clear()
            later = {key: at for key, at in later.items() if at > now}
            assert queue.next_at == min(later.values(), default=None)
