"""The queue with everything around it, in virtual time: who goes first, who is recalled, who is too late."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from reconciler.resources.pool import Autoscale
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Reason
from tests.sim.chaos import slots
from tests.sim.machine import Nature
from tests.sim.test_faults import acknowledged, ended, house
from tests.sim.world import Order, World


def pool(world: World, replicas: int, policy: str, **fields: Any) -> None:
    world.declare("batch", slots(replicas, scheduling={"type": policy, **fields}))
    world.run(2)


def task(world: World, runs_s: float = 1.0, **fields: Any) -> Order:
    """A task that runs so long and succeeds."""
    order = acknowledged(world, world.submit("batch", ["task"], **fields))
    world.natures.setdefault(f"task/{order.task_id}", deque()).append(Nature(runs_s=runs_s))
    return order


def began(world: World, orders: list[Order]) -> list[int]:
    """Places of the orders in the sequence in which they began."""
    places = {order.task_id: place for place, order in enumerate(orders)}
    return [places[record.id] for record in sorted(map(world.task, orders), key=lambda r: (r.started_ms, r.id))]


def test_a_flood_of_urgent_work_goes_first_and_takes_back_what_the_launcher_has_not_begun() -> None:
    world = house()
    pool(world, 1, "Priority")
    runs = task(world, 5)
    usual = [task(world) for _ in range(6)]  # all of them wait at the launcher
    low = task(world, priority=10)
    urgent = [task(world, priority=priority) for priority in (200, 255, 220)]
    assert {ended(world, order) for order in [*usual, low, *urgent]} == {TaskState.SUCCEEDED}
    assert began(world, [runs, *usual, low, *urgent]) == [0, 9, 10, 8, 1, 2, 3, 4, 5, 6, 7]


def test_fault_T12_a_starving_tenant_gets_its_share_beside_one_that_floods_the_queue() -> None:
    world = house()
    pool(world, 1, "FairShare")
    flood = [task(world, tenant="flood") for _ in range(40)]
    done = sum(world.task(order).state.ended for order in flood)
    small = [task(world, tenant="small") for _ in range(5)]
    for order in small:
        ended(world, order)
    assert sum(world.task(order).state.ended for order in flood) - done <= 8


def test_fault_T8_an_impossible_deadline_ends_expired_and_the_others_are_not_held_up() -> None:
    world = house()
    pool(world, 1, "EarliestDeadlineFirst", estimate="2s")
    runs = task(world, 4.5, deadline=60.0)
    world.run(1)
    hopeless = task(world, 2, deadline=4.0)
    later = task(world, 2, deadline=30.0)
    sooner = task(world, 2, deadline=12.0)
    assert ended(world, hopeless) is TaskState.EXPIRED
    record = world.task(hopeless)
    assert (record.reason, record.attempts) == (Reason.START_DEADLINE_EXCEEDED, 0)
    assert 1_900 <= record.finished_ms - record.submitted_ms <= 2_500, "its latest start, not its deadline"
    assert {ended(world, order) for order in (runs, sooner, later)} == {TaskState.SUCCEEDED}
    assert began(world, [runs, later, sooner]) == [0, 2, 1]


def test_fault_T8_a_deadline_that_passes_while_a_task_runs_kills_it_and_it_is_not_tried_again() -> None:
    world = house()
    pool(world, 1, "FIFO")
    order = task(world, 1000, deadline=3.0)
    waits = task(world, 1, deadline=2.0)
    assert ended(world, order) is TaskState.EXPIRED and ended(world, waits) is TaskState.EXPIRED
    record = world.task(order)
    assert (record.reason, record.attempts) == (Reason.DEADLINE_EXCEEDED, 1)
    assert world.task(waits).reason == Reason.START_DEADLINE_EXCEEDED
    world.run(10)
    assert not world.living("task/")


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_fault_T9_a_step_of_the_wall_clock_moves_neither_a_delay_nor_a_deadline(seconds: float) -> None:
    world = house()
    pool(world, 2, "FIFO")
    delayed = task(world, 1, delay_s="10s")
    limited = task(world, 5, deadline=60.0)
    world.step_clock(seconds)
    world.run(8)
    assert world.task(delayed).state is TaskState.DELAYED
    assert ended(world, delayed) is ended(world, limited) is TaskState.SUCCEEDED
    assert 9_000 <= world.task(delayed).started_ms - world.task(delayed).submitted_ms <= 12_000


def test_fault_T15_tasks_that_failed_together_come_back_spread_and_no_more_at_once_than_slots() -> None:
    world = house()
    pool(world, 4, "FIFO")
    orders = [task(world, 0.01, max_attempts=2) for _ in range(60)]
    for order in orders:
        world.natures[f"task/{order.task_id}"] = deque([Nature(runs_s=0.01, code=1), Nature(runs_s=0.2)])
    most = 0
    while not all(world.task(order).state.ended for order in orders):
        world.run(0.05)
        most = max(most, len(world.living("task/")))
    assert most <= 4
    assert {world.task(order).state for order in orders} == {TaskState.SUCCEEDED}


def test_a_live_pool_takes_another_policy_and_keeps_its_queue() -> None:
    world = house()
    pool(world, 1, "FIFO")
    runs = task(world, 4)
    waiting = [task(world, priority=priority) for priority in (100, 10, 255)]
    pool(world, 1, "Priority")
    assert {ended(world, order) for order in [runs, *waiting]} == {TaskState.SUCCEEDED}
    assert began(world, [runs, *waiting]) == [0, 3, 1, 2]


def test_ended_tasks_are_dropped_when_their_time_is_over_and_their_key_is_free_again() -> None:
    world = house()
    world.declare("batch", slots(1, ttlAfterFinished="60s"))
    order = acknowledged(world, world.submit("batch", ["poison"], idempotency_key="once", max_attempts=1))
    assert ended(world, order) is TaskState.FAILED
    world.run(40)
    assert acknowledged(world, world.submit("batch", ["poison"], idempotency_key="once", max_attempts=1)).task_id == 1
    world.run_until(lambda: order.task_id not in world.disk.tasks, 100)
    world.run(5)
    assert acknowledged(world, world.submit("batch", ["poison"], idempotency_key="once", max_attempts=1)).task_id == 2


def test_a_dynamic_pool_grows_with_what_waits_and_shrinks_when_nothing_does() -> None:
    world = house()
    world.declare("batch", slots(1).changed(autoscale=Autoscale(min=0, max=6)))
    world.run(3)
    assert world.pool("batch").status.desired_replicas == 0
    orders = [task(world, 20.0) for _ in range(30)]
    slots_at = []
    while not all(world.task(order).state.ended for order in orders):
        world.run(1)
        slots_at.append(world.pool("batch").status.desired_replicas)
        assert len(world.living("task/")) <= 6
    assert slots_at[0] == 1 and max(slots_at) == 6, "the first slot at once, then half of what waits"
    assert slots_at.index(6) in range(12, 18), "steps keep a distance of 15 s"
    world.run_until(lambda: world.pool("batch").status.desired_replicas == 0, 90)
    said = [event.message for event in world.controller.store.events("pool/batch") if event.reason.startswith("Scaled")]  # type: ignore[union-attr]
    assert said[0].startswith("from 0 to 1 slots: 1") or said[0].startswith("from 0 to 1 slots: one task")
    assert any("more than 2 x 1" in words for words in said) and any("fewer than" in words for words in said)


def test_fault_T6_the_word_of_an_older_try_changes_nothing_of_the_newer_one() -> None:
    world = house()
    pool(world, 1, "FIFO")
    order = task(world, 0.1)
    world.natures[f"task/{order.task_id}"] = deque([Nature(runs_s=0.1, code=1), Nature(runs_s=30.0)])
    world.run_until(lambda: world.task(order).claim == 2 and world.living("task/"))
    old = f"{world.controller.store.id}.{order.task_id}.1"  # type: ignore[union-attr]
    late = [9_999, f"task/{order.task_id}", old, {"pid": 1, "code": 0, "at_ms": 0, "started_ms": 0}]
    world.controller.loop.receive([["exited", [late]], ["started", [[late[1], old, 1, 0, 0]]]])  # type: ignore[union-attr]
    world.run(5)
    assert not world.task(order).state.ended and len(world.living("task/")) == 1


def test_fault_T17_an_end_that_cannot_be_written_is_kept_until_it_can_and_the_task_is_not_run_again() -> None:
    world = house()
    pool(world, 1, "FIFO")
    order = task(world, 2.0)
    world.run(1)
    world.disk.full = True
    world.run(10)
    assert not world.living("task/") and not world.task(order).state.ended
    world.disk.full = False
    assert ended(world, order) is TaskState.SUCCEEDED
    world.converge(10)
    assert world.task(order).attempts == 1
