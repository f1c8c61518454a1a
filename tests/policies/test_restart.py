"""What follows an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.restart import Next, after, within
from reconciler.resources.restart import Policy, RestartPolicySpec
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
    assert after(RestartPolicySpec(policy=policy), ENDS[how]).next is TABLE[policy, how]


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.EXITED, Reason.STOPPED}))
def test_what_is_no_exit_by_itself_is_a_failure(reason: Reason) -> None:
    assert after(RestartPolicySpec(policy=Policy.ON_FAILURE), end(reason, 0)).next is Next.RESTART
    assert after(RestartPolicySpec(policy=Policy.NEVER), end(reason, 0)).next is Next.FAIL


@given(st.lists(st.integers(0, 1000)), st.floats(0, 1000))
@settings(max_examples=100, derandomize=True)
def test_only_restarts_within_the_window_count(ages_s: list[int], window_s: float) -> None:
    restarts = tuple(NOW - timedelta(seconds=age_s) for age_s in ages_s)
    assert len(within(restarts, window_s, NOW)) == sum(
        timedelta(seconds=a) < timedelta(seconds=window_s) for a in ages_s
    )


def rules(*rules: dict[str, object], policy: str = "OnFailure") -> RestartPolicySpec:
    return RestartPolicySpec.model_validate({"policy": policy, "rules": list(rules)})


def killed(signal: str, reason: Reason = Reason.SIGNALLED) -> LastExit:
    return LastExit(signal=signal, reason=reason, at=NOW)


def test_the_first_rule_that_matches_decides_and_is_named() -> None:
    spec = rules(
        {"exitCodes": {"in": [78]}, "action": "Fail"},
        {"exitCodes": {"in": [78, 79]}, "action": "Stop"},
        {"reason": "OOMKilled", "action": "Ignore"},
    )

    assert after(spec, end(Reason.EXITED, 78)) == (Next.FAIL, True, "rules[0] (exitCodes in 78: Fail)")
    assert after(spec, end(Reason.EXITED, 79)) == (Next.COMPLETE, False, "rules[1] (exitCodes in 78, 79: Stop)")
    assert after(spec, killed("SIGKILL", Reason.OOM_KILLED)).rule == "rules[2] (reason OOMKilled: Ignore)"
    assert after(spec, end(Reason.EXITED, 1)) == (Next.RESTART, True, "policy OnFailure")


@pytest.mark.parametrize(("code", "follows"), [(0, Next.FAIL), (1, Next.COMPLETE), (2, Next.FAIL)])
def test_not_in_matches_every_code_that_is_not_listed(code: int, follows: Next) -> None:
    spec = rules({"exitCodes": {"notIn": [1]}, "action": "Fail"}, {"exitCodes": {"in": [1]}, "action": "Stop"})

    assert after(spec, end(Reason.EXITED, code)).next is follows


@pytest.mark.parametrize("reason", sorted(Reason))
def test_a_rule_about_signals_sees_only_those_that_came_from_outside(reason: Reason) -> None:
    spec = rules({"signals": ["SIGTERM"], "action": "Stop"}, policy="Always")
    from_outside = reason in (Reason.SIGNALLED, Reason.KILLED_EXTERNALLY, Reason.OOM_KILLED)

    assert (after(spec, killed("SIGTERM", reason)).next is Next.COMPLETE) == from_outside


def test_no_rule_sees_a_stop_of_ours() -> None:
    spec = rules({"exitCodes": {"in": [0]}, "action": "Fail"}, {"signals": ["SIGTERM"], "action": "Fail"})

    assert after(spec, end(Reason.STOPPED, 0)).next is Next.RESTART
    assert after(spec, killed("SIGTERM", Reason.STOPPED)).next is Next.RESTART
