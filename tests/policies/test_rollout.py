"""One after another, never fewer than allowed, and no further than the first that does not stay up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.rollout import Slot, Step, next_step
from reconciler.resources.pool import Rollout, Strategy
from reconciler.resources.units import format_moment

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def old(name: str, ready: bool = True) -> Slot:
    return Slot(name, "old", "old", LONG_AGO if ready else None)


def new(name: str, ready_since: datetime | None = NOW) -> Slot:
    return Slot(name, "new", "new", ready_since)


def rolling(moved_at: datetime = NOW, failed: str = "") -> Rollout:
    return Rollout(
        template_hash="new", began_at=format_moment(moved_at), moved_at=format_moment(moved_at), failed=failed
    )


def test_nothing_is_rolled_out_where_all_have_the_template() -> None:
    assert next_step([new("a"), new("b", None)], "new", Strategy(), None, NOW) == Step()


def test_one_is_replaced_and_the_rest_wait() -> None:
    step = next_step([old("a"), old("b"), old("c")], "new", Strategy(), None, NOW)
    assert step.replace == ("a",)
    assert step.rollout == rolling()


def test_a_worker_that_is_down_goes_first() -> None:
    step = next_step([old("a"), old("b", ready=False), old("c")], "new", Strategy(), None, NOW)
    assert step.replace == ("b",)


def test_the_next_one_waits_until_the_new_one_has_stayed_up_for_a_second() -> None:
    slots = [new("a", NOW), old("b")]
    assert next_step(slots, "new", Strategy(), rolling(), later(0.999)).replace == ()
    assert next_step(slots, "new", Strategy(), rolling(), later(0.999)).look_at == later(1)
    assert next_step(slots, "new", Strategy(), rolling(), later(1)).replace == ("b",)


def test_min_ready_longer_than_a_second_counts() -> None:
    slots = [new("a", NOW), old("b")]
    strategy = Strategy().changed(min_ready_s=5.0)
    assert next_step(slots, "new", strategy, rolling(), later(4)).replace == ()
    assert next_step(slots, "new", strategy, rolling(), later(5)).replace == ("b",)


def test_a_replaced_worker_that_still_runs_the_old_template_counts_as_missing() -> None:
    slots = [Slot("a", "new", "old", LONG_AGO), old("b")]
    assert next_step(slots, "new", Strategy(), rolling(), later(60)).replace == ()


def test_one_that_is_down_waits_as_well_while_the_new_template_is_being_tried() -> None:
    slots = [new("a", NOW), old("b"), old("c", ready=False)]
    assert next_step(slots, "new", Strategy(), rolling(), later(0.5)).replace == ()
    assert next_step(slots, "new", Strategy(), rolling(), later(1)).replace == ("c",)


def test_a_worker_that_has_done_its_work_is_settled() -> None:
    slots = [Slot("a", "new", "new", None, completed=True), old("b")]
    assert next_step(slots, "new", Strategy(), rolling(), NOW).replace == ("b",)


def test_the_first_new_worker_that_fails_stops_it_for_good() -> None:
    slots = [Slot("a", "new", "new", None, failed_at=later(1), why="exit code 1"), old("b")]
    step = next_step(slots, "new", Strategy(), rolling(), later(1))
    assert step.replace == ()
    assert step.rollout is not None and step.rollout.failed == "worker/a did not stay up: exit code 1"
    settled = [new("a"), old("b")]
    assert next_step(settled, "new", Strategy(), step.rollout, later(1000)) == Step(rollout=step.rollout)


def test_another_template_starts_over() -> None:
    failed = rolling(failed="it broke")
    step = next_step([new("a"), old("b")], "newer", Strategy(), failed, NOW)
    assert step.replace == ("a",)
    assert step.rollout is not None and not step.rollout.failed


def test_a_failure_from_before_the_rollout_is_not_its_fault() -> None:
    slots = [Slot("a", "new", "new", LONG_AGO, failed_at=LONG_AGO), old("b", ready=False)]
    assert next_step(slots, "new", Strategy(), None, NOW).replace == ("b",)


def test_where_nothing_is_up_nothing_is_protected() -> None:
    step = next_step([old("a", ready=False), old("b", ready=False)], "new", Strategy(), None, NOW)
    assert step == Step(replace=("a", "b"))


def test_a_rollout_that_does_not_move_has_failed_at_its_deadline() -> None:
    slots = [new("a", None), old("b")]
    strategy = Strategy().changed(progress_deadline_s=20.0)
    assert next_step(slots, "new", strategy, rolling(), NOW).look_at == later(20)
    step = next_step(slots, "new", strategy, rolling(), later(20))
    assert step.rollout is not None and step.rollout.failed == "nothing moved for 20s (progressDeadline)"


@given(
    count=st.integers(1, 12),
    max_unavailable=st.integers(1, 12),
    down=st.sets(st.integers(0, 11)),
    starts_after_s=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    fails=st.none() | st.integers(0, 11),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_rollout_never_takes_away_more_than_allowed_and_ends(
    count: int, max_unavailable: int, down: set[int], starts_after_s: list[int], fails: int | None
) -> None:
    strategy = Strategy(max_unavailable=max_unavailable)
    slots = [old(str(n), ready=n not in down) for n in range(count)]
    some_up = any(slot.ready_since for slot in slots)
    down_at_first = sum(slot.ready_since is None for slot in slots)
    starting: dict[str, datetime] = {}
    current: Rollout | None = None
    now = NOW
    for _ in range(100):
        step = next_step(slots, "new", strategy, current, now)
        current = step.rollout
        for name in step.replace:
            n = int(name)
            slots[n] = Slot(name, "new", "old", None)
            starting[name] = now + timedelta(seconds=starts_after_s[n])
        if some_up:
            missing = sum(slot.ready_since is None for slot in slots)
            assert missing <= max(max_unavailable, down_at_first)
        now += timedelta(seconds=1)
        for name, at in list(starting.items()):
            if at <= now:
                del starting[name]
                if int(name) == fails and some_up:
                    slots[int(name)] = Slot(name, "new", "new", None, failed_at=now, why="exit code 1")
                else:
                    slots[int(name)] = new(name, now)
    broke = some_up and fails is not None and fails < count
    if broke:
        assert current is not None and current.failed
        touched = sum(slot.wanted == "new" for slot in slots)
        ahead = sorted(range(count), key=lambda n: (n not in down, n)).index(fails or 0)
        assert touched == ahead + 1 or max_unavailable > 1  # several at once: quick ones pass the slow one that fails
        frozen = next_step(slots, "new", strategy, current, now + timedelta(days=1))
        assert frozen.replace == ()
    else:
        assert current is None
        assert all(slot.running == "new" for slot in slots)


def test_a_slot_without_a_worker_tries_the_new_template_before_one_that_serves_is_taken_away() -> None:
    step = next_step([old("a"), old("b")], "new", Strategy(), None, NOW, missing=1)
    assert step.replace == () and step.rollout is not None
