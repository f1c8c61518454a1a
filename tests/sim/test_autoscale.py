"""A pool that grows and shrinks with its queue, on the simulated machine."""

from __future__ import annotations

from typing import Any

from reconciler.resources.pool import PoolSpec
from tests.sim.test_faults import house
from tests.sim.world import World


def scaled(least: int, most: int) -> PoolSpec:
    return PoolSpec.model_validate(
        {"autoscale": {"min": least, "max": most}, "template": {"stop": {"gracePeriod": "2s"}}, "tasks": {}}
    )


def running(world: World) -> int:
    return len(world.living("task/"))


def sizes(world: World, seconds: float) -> list[int]:
    """The sizes that it had, one after another."""
    found: list[int] = [world.pool("batch").replicas]
    for _ in range(round(seconds * 10)):
        world.run(0.1)
        if (now := world.pool("batch").replicas) != found[-1]:
            found.append(now)
    return found


def events(world: World, reason: str) -> list[Any]:
    assert world.controller is not None
    return [one for one in world.controller.store.events("pool/batch") if one.reason == reason]


def test_it_grows_with_what_waits_runs_as_many_and_shrinks_when_nothing_is_left() -> None:
    world = house()
    world.declare("batch", scaled(2, 16))
    world.run_until(lambda: ("Pool", "batch") in world.disk.objects and world.pool("batch").replicas == 2)
    for number in range(60):
        world.submit("batch", ["long", str(number)], timeout_s="20s")
    grown = sizes(world, 45)
    assert grown[:2] == [2, 16], "60 wait, two run: + 29 is more than there may be"
    world.run_until(lambda: running(world) == 0, 600)
    assert sizes(world, 90)[-1] == 2
    assert [one.message.partition(":")[0] for one in events(world, "ScaledUp")][:2] == [
        "from 0 to 2 slots",
        "from 2 to 16 slots",
    ]
    assert len(events(world, "ScaledDown")) >= 3
    assert world.controller is not None and not world.wrong()


def test_a_pool_of_none_has_one_as_soon_as_work_comes_and_none_again_later() -> None:
    world = house()
    world.declare("batch", scaled(0, 4))
    world.run_until(lambda: ("Pool", "batch") in world.disk.objects)
    world.run(40)
    assert world.pool("batch").replicas == 0
    ready = next(one for one in world.pool("batch").status.conditions if one.type == "Ready")
    assert (ready.status, ready.reason) == ("True", "ScaledToZero")
    order = world.submit("batch", ["work", "1"])
    world.run_until(lambda: order.task_id, 5)
    world.run_until(lambda: world.task(order).state.ended, 5)
    world.run(40)
    assert world.pool("batch").replicas == 0


def test_a_delayed_task_brings_the_slot_that_it_needs() -> None:
    world = house()
    world.declare("batch", scaled(0, 4))
    world.run_until(lambda: ("Pool", "batch") in world.disk.objects)
    assert world.controller is not None
    moment = world.controller.clock.now().timestamp() + 100
    order = world.submit("batch", ["work", "1"], not_before=_moment(moment))
    world.run(60)
    assert world.pool("batch").replicas == 0 and running(world) == 0
    world.run_until(lambda: world.task(order).state.ended, 60)


def _moment(at_s: float) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_s, UTC)


def test_its_size_outlives_the_controller() -> None:
    world = house()
    world.declare("batch", scaled(2, 16))
    world.run_until(lambda: ("Pool", "batch") in world.disk.objects and world.pool("batch").replicas == 2)
    for number in range(60):
        world.submit("batch", ["long", str(number)], timeout_s="60s")
    world.run_until(lambda: running(world) == 16, 60)
    world.kill_controller()
    world.run(3)
    assert world.pool("batch").replicas == 16 and running(world) == 16


def test_workers_without_tasks_begin_with_the_least_and_stay_while_nothing_is_known() -> None:
    world = house()
    spec = {"autoscale": {"min": 2, "max": 5, "metrics": [{"type": "CPU", "target": 70}]}}
    world.declare("web", PoolSpec.model_validate({**spec, "template": {"command": ["serve", "1"]}}))
    world.run_until(lambda: len(world.living("worker/web")) == 2)
    world.run(60)
    assert len(world.living("worker/web")) == 2
