"""What `wait` waits for."""

from __future__ import annotations

from datetime import UTC, datetime

from reconciler.api.conditions import Answer, of_object
from reconciler.resources.meta import Condition, Metadata, Status
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus, Rollout

AT = datetime(2026, 1, 1, tzinfo=UTC)


def a_pool(rollout: Rollout | None = None, observed: int = 2) -> Pool:
    ready = Condition(type="Ready", status=Status.TRUE, reason="AllReady", last_transition_time=AT)
    status = PoolStatus(observed_generation=observed, conditions=(ready,), rollout=rollout)
    return Pool(metadata=Metadata(name="web", generation=2), spec=PoolSpec(), status=status)


def rolling(failed: str = "") -> Rollout:
    return Rollout(template_hash="abc", began_at="", moved_at="", failed=failed)


def test_a_pool_is_ready_when_it_is_as_it_was_declared_last() -> None:
    assert of_object(a_pool(), "ready") is Answer.YES
    assert of_object(a_pool(observed=1), "ready") is Answer.NOT_YET


def test_a_pool_in_mid_rollout_is_not_ready_yet_and_one_whose_rollout_failed_never_will_be() -> None:
    assert of_object(a_pool(rolling()), "ready") is Answer.NOT_YET
    assert of_object(a_pool(rolling("web-0 did not stay up")), "ready") is Answer.NEVER
    assert of_object(a_pool(rolling()), "condition=Ready") is Answer.YES
