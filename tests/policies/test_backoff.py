"""Waits before restarts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.backoff import delay_s
from reconciler.resources.restart import Backoff

EVEN = Backoff().changed(jitter=0.0)
backoffs = st.builds(
    Backoff().changed,
    initial_s=st.floats(0, 1000),
    factor=st.floats(1, 100),
    max_s=st.floats(0, 1000),
    jitter=st.floats(0, 1),
)


def test_the_first_restart_waits_nothing_then_one_second_doubled_up_to_sixty() -> None:
    assert [delay_s(n, EVEN, "") for n in range(1, 10)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]


def test_restarts_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        delay_s(0, EVEN, "")


@given(backoffs, st.integers(1, 10**9), st.text())
@settings(max_examples=200, derandomize=True)
def test_a_wait_is_never_negative_never_above_the_cap_and_always_the_same(
    backoff: Backoff, attempt: int, seed: str
) -> None:
    wait_s = delay_s(attempt, backoff, seed)
    assert 0 <= wait_s <= backoff.max_s
    assert wait_s == delay_s(attempt, backoff, seed)


@given(st.integers(2, 100), st.text())
@settings(max_examples=200, derandomize=True)
def test_the_jitter_stays_within_its_share(attempt: int, seed: str) -> None:
    even_s = delay_s(attempt, EVEN, seed)
    wait_s = delay_s(attempt, EVEN.changed(jitter=0.1), seed)
    assert even_s * 0.9 <= wait_s <= even_s * 1.1


@given(st.integers(1, 100), st.text())
@settings(max_examples=100, derandomize=True)
def test_without_jitter_no_wait_is_shorter_than_the_one_before(attempt: int, seed: str) -> None:
    assert delay_s(attempt, EVEN, seed) <= delay_s(attempt + 1, EVEN, seed)


def test_workers_that_fell_together_do_not_come_back_together() -> None:
    at_the_cap = {delay_s(50, Backoff(), f"worker-{n}.1") for n in range(1000)}
    assert len(at_the_cap) > 990
    assert max(at_the_cap) - min(at_the_cap) > 5
