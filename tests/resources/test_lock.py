"""A Lock's times are within bounds, and fit each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from reconciler.resources.check import findings
from reconciler.resources.lock import Lock, LockSpec, token_variable
from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Pool, revision_hash


def wrong(**spec: object) -> list[str]:
    lock = Lock(metadata=Metadata(name="db"), spec=LockSpec.model_validate(spec))
    return [str(finding.path[-1]) for finding in findings(lock)]


def test_the_defaults_and_others_that_keep_their_distance_are_right() -> None:
    assert wrong() == []
    assert wrong(leaseDuration="1s", renewDeadline="800ms", retryPeriod="200ms", maxHolders=10_000) == []


@pytest.mark.parametrize("lease", ["0s", "1ms", "999ms", "25h", "3650d"])
def test_fault_K10_a_lease_of_nothing_or_of_years_is_refused(lease: str) -> None:
    assert wrong(leaseDuration=lease, renewDeadline="100ms", retryPeriod="50ms") == ["leaseDuration"]


@pytest.mark.parametrize("value", ["-5s", "15", 15, "forever"])
def test_fault_K10_a_time_that_is_none_is_refused(value: object) -> None:
    with pytest.raises((ValidationError, ValueError)):
        wrong(leaseDuration=value)


def test_fault_E9_a_holder_gives_up_a_tenth_of_the_lease_before_its_end() -> None:
    assert wrong(leaseDuration="10s", renewDeadline="9s", retryPeriod="1s") == []
    assert wrong(leaseDuration="10s", renewDeadline="9100ms", retryPeriod="1s") == ["renewDeadline"]


def test_a_holder_can_miss_one_renewal_and_does_not_renew_without_pause() -> None:
    assert wrong(retryPeriod="6s") == ["retryPeriod"]
    assert wrong(retryPeriod="1ms") == ["retryPeriod"]


def test_nobody_and_ten_thousand_and_one_holders_are_refused() -> None:
    for most in (0, -1, 10_001):
        with pytest.raises(ValidationError):
            wrong(maxHolders=most)


def test_another_lock_replaces_the_workers_for_they_have_to_hold_it_and_another_timeout_does_not() -> None:
    def pool(*locks: dict[str, str]) -> str:
        spec = {"template": {"command": ["serve"]}, "locks": list(locks)}
        return revision_hash(Pool.model_validate({"kind": "Pool", "metadata": {"name": "web"}, "spec": spec}))

    assert len({pool(), pool({"name": "a"}), pool({"name": "b"})}) == 3
    assert pool({"name": "a"}) == pool({"name": "a", "timeout": "1m"})


def test_the_variable_of_a_lock_is_its_name_in_capitals() -> None:
    assert token_variable("data-base") == "RECONCILER_LOCK_TOKEN_DATA_BASE"
