"""The account of restarts outlives the controller: it is made anew from what stands in the workers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Pool, PoolSpec
from reconciler.resources.restart import RestartBudget
from reconciler.resources.worker import State, Worker, WorkerSpec, WorkerStatus
from reconciler.runtime.budgets import Budgets
from reconciler.store.memory import MemoryStore

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POOL = Pool(
    metadata=Metadata(name="web"),
    spec=PoolSpec(restart_budget=RestartBudget.model_validate({"maxRestarts": 2, "window": "1m"})),
)


def store(*statuses: WorkerStatus) -> MemoryStore:
    made = MemoryStore(lambda: NOW)
    made.create(POOL)
    for ordinal, status in enumerate(statuses):
        spec = WorkerSpec(pool="web", ordinal=ordinal, template_hash="t")
        made.create(Worker(metadata=Metadata(name=f"web-{ordinal}"), spec=spec, status=status))
    return made


def test_restarts_before_the_controller_died_still_count() -> None:
    early, late = NOW - timedelta(seconds=50), NOW - timedelta(seconds=10)
    budgets = Budgets(store(WorkerStatus(restarts=2, recent_restarts=(early, late))), NOW)

    assert timedelta(seconds=10) <= budgets.grant(POOL, "w.3", NOW).at - NOW < timedelta(seconds=11)


def test_a_grant_for_later_is_not_given_twice() -> None:
    waiting = WorkerStatus(
        state=State.BACKOFF, instance="a.1", admitted="a.1", next_start_at=NOW + timedelta(seconds=30)
    )
    ready = WorkerStatus(restarts=1, recent_restarts=(NOW - timedelta(seconds=30),))
    budgets = Budgets(store(waiting, ready), NOW)

    assert budgets.grant(POOL, "w.3", NOW).at >= NOW + timedelta(seconds=30)
    budgets.charge("web", NOW + timedelta(seconds=30))
    assert budgets.grant(POOL, "w.4", NOW).at >= NOW + timedelta(seconds=90)


def test_a_pool_without_a_budget_waits_for_the_host_alone() -> None:
    budgets = Budgets(store(), NOW)
    free = POOL.changed(spec=POOL.spec.changed(restart_budget=None))
    for _ in range(budgets.host.burst):
        assert budgets.grant(free, "w", NOW).why == ""
        budgets.charge("web", NOW)

    assert "of this host" in budgets.grant(free, "w", NOW).why


def test_fault_C14_restarts_from_before_the_clock_was_set_back_count_as_of_now() -> None:
    in_an_hour = NOW + timedelta(hours=1)
    budgets = Budgets(store(WorkerStatus(restarts=1, recent_restarts=(in_an_hour,))), NOW)
    free = POOL.changed(spec=POOL.spec.changed(restart_budget=None))

    assert budgets.grant(free, "w", NOW).why == ""
    budgets.charge("web", NOW)
    assert budgets.grant(POOL, "w", NOW).at < NOW + timedelta(seconds=61)


def test_of_a_pool_that_crashes_for_ever_no_more_is_remembered_than_its_budget_asks_for() -> None:
    kept = Budgets(store(), NOW)
    for number in range(1000):
        kept.charge("web", NOW + timedelta(minutes=number))
        kept.charge("without-a-budget", NOW + timedelta(minutes=number))

    assert {pool: len(moments) for pool, moments in kept._granted.items()} == {"web": 2}
