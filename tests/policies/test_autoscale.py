"""How many slots: the band, the exact steps, the bounds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.autoscale import step

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("current", "pending", "running", "slots"),
    [
        (4, 8, 4, None),  # not more than 2 x 4
        (4, 9, 4, 9),  # 4 + 9 / 2, rounded up
        (4, 1000, 4, 64),
        (64, 1000, 64, None),
        (8, 4, 0, None),  # not fewer than 8 / 2
        (8, 3, 0, 4),
        (9, 4, 0, 4),  # 9 - 9 / 2 rounded up
        (9, 0, 7, 7),  # nothing that runs is taken its slot
        (9, 0, 9, None),
        (5, 0, 0, 4),  # not below min
        (4, 0, 0, None),
        (2, 0, 0, 4),
        (100, 1000, 80, 64),
    ],
)
def test_the_steps_are_those_of_the_rule(current: int, pending: int, running: int, slots: int | None) -> None:
    found = step(current, pending, running, least=4, most=64)
    assert (found and found.slots) == slots


def test_from_nothing_the_first_slot_comes_as_soon_as_a_task_waits() -> None:
    assert step(0, 0, 0, 0, 64) is None
    assert step(0, 500, 0, 0, 64) == (1, "500 tasks wait and there is no slot", True)
    assert step(1, 0, 0, 0, 64) == (0, "0 tasks wait, fewer than 1 / 2", True)
    assert step(1, 0, 1, 0, 64) is None


@given(st.integers(0, 200), st.integers(0, 10**6), st.integers(0, 200), st.integers(0, 100), st.integers(1, 200))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_no_step_leaves_the_bounds_and_each_is_one(
    current: int, pending: int, running: int, least: int, more: int
) -> None:
    found = step(current, pending, min(running, current), least, least + more)
    if found is not None:
        assert least <= found.slots <= least + more and found.slots != current


@given(st.integers(0, 10_000), st.integers(1, 64), st.integers(0, 64))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_a_backlog_that_stays_as_it_is_comes_to_rest(pending: int, least: int, more: int) -> None:
    current = least
    for _ in range(40):
        found = step(current, pending, 0, least, least + more)
        if found is None:
            break
        current = found.slots
    assert step(current, pending, 0, least, least + more) is None
