"""What follows an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.restart import Next, after, within
from reconciler.resources.restart import Policy
from reconciler.resources.worker import LastExit, Reason

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def end(reason: Reason, code: int | None = None) -> LastExit:
    return LastExit(code=code, signal=None, reason=reason, at=NOW)


TABLE = {
    (Policy.ALWAYS, "code 0"): Next.RESTART,
    (Policy.ALWAYS, "code 1"): Next.RESTART,
    (Policy.ALWAYS, "stopped"): Next.RESTART,
    (Policy.ON_FAILURE, "code 0"): Next.COMPLETE,
    (Policy.ON_FAILURE, "code 1"): Next.RESTART,
    (Policy.ON_FAILURE, "stopped"): Next.RESTART,
    (Policy.NEVER, "code 0"): Next.COMPLETE,
    (Policy.NEVER, "code 1"): Next.FAIL,
    (Policy.NEVER, "stopped"): Next.RESTART,
}
ENDS = {
    "code 0": end(Reason.EXITED, 0),
    "code 1": end(Reason.EXITED, 1),
    "stopped": end(Reason.STOPPED, 0),
}


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(product(Policy, ENDS))


@pytest.mark.parametrize(("policy", "how"), TABLE)
def test_fault_P12_the_policy_says_what_an_exit_code_means(policy: Policy, how: str) -> None:
    assert after(policy, ENDS[how]) is TABLE[policy, how]


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.EXITED, Reason.STOPPED}))
def test_what_is_no_exit_by_itself_is_a_failure(reason: Reason) -> None:
    assert after(Policy.ON_FAILURE, end(reason, 0)) is Next.RESTART
    assert after(Policy.NEVER, end(reason, 0)) is Next.FAIL


@given(st.lists(st.integers(0, 1000)), st.floats(0, 1000))
@settings(max_examples=100, derandomize=True)
def test_only_restarts_within_the_window_count(ages_s: list[int], window_s: float) -> None:
    restarts = tuple(NOW - timedelta(seconds=age_s) for age_s in ages_s)
    assert len(within(restarts, window_s, NOW)) == sum(
        timedelta(seconds=a) < timedelta(seconds=window_s) for a in ages_s
    )
