"""Pools that share locks on the simulated machine, while everything around them dies."""

from __future__ import annotations

import pytest

from reconciler.resources.lock import Holder, Lock, LockSpec, LockStatus
from reconciler.resources.meta import Key, Metadata
from tests.sim.chaos import workers
from tests.sim.world import World


def house(seed: object, *faults: str) -> World:
    """Two pools that take the same two locks, each in the order in which they are written."""
    world = World(seed, faults)
    world.up()
    world.run_until(lambda: world.controller is not None and world.controller.serving)
    assert world.controller is not None
    for name in ("db", "ui"):
        world.controller.store.create(Lock(metadata=Metadata(name=name), spec=LockSpec()))
    world.controller.loop.wake()
    world.declare("a", workers(2, 1, locks=[{"name": "db"}, {"name": "ui"}]))
    world.declare("b", workers(1, 1, locks=[{"name": "ui"}, {"name": "db"}]))
    return world


def lock(world: World, name: str) -> LockStatus:
    found = world.disk.objects["Lock", name]
    assert isinstance(found, Lock)
    return found.status


def holders(world: World, name: str) -> list[str]:
    return [one.name for one in lock(world, name).holders]


def test_fault_K9_pools_that_name_the_same_locks_in_opposite_orders_never_wait_for_each_other() -> None:
    world = house("order")
    world.run(5)
    assert len(world.living("worker/")) == 1
    for _ in range(6):
        (process,) = world.living("worker/")
        world.crash(process, 0)
        world.run(5)
        assert len(world.living("worker/")) == 1
    assert holders(world, "db") == holders(world, "ui") == [world.living("worker/")[0].key]
    assert lock(world, "db").token >= 7 and not lock(world, "db").deadlock


def test_fault_K9_who_waits_for_one_lock_holds_none_that_comes_after_it() -> None:
    world = house("held")
    assert world.controller is not None
    held = Holder(id="session", name="user ada", since=world.controller.clock.now(), token=1)
    world.controller.store.set_status(Key("Lock", "db"), LockStatus(token=1, holders=(held,)))
    world.run(5)
    assert holders(world, "db") == ["user ada"] and len(lock(world, "db").waiting) == 3
    assert holders(world, "ui") == [] and lock(world, "ui").waiting == ()
    world.run(20)  # it does not renew
    assert len(world.living("worker/")) == 1


def test_a_worker_whose_lock_another_pool_has_stands_by_and_is_told_its_token_when_it_starts() -> None:
    world = house("tokens")
    world.run(5)
    (process,) = world.living("worker/")
    first = world.worker(process.key.partition("/")[2]).status
    assert list(first.tokens) == ["db", "ui"] or list(first.tokens) == ["ui", "db"]
    others = [world.worker(name).status for name in ("a-0", "a-1", "b-0") if f"worker/{name}" != process.key]
    assert all(other.stands_by and not other.tokens and "waits for lock/" in other.message for other in others)


@pytest.mark.parametrize("seed", range(6))
def test_fault_K1_no_two_that_exclude_each_other_live_at_once_whoever_dies_and_tokens_only_rise(seed: int) -> None:
    world = house(f"locks {seed}", "ignores-term", "slow-starts")
    chance = world.timeline.chance("locks")
    tokens: dict[str, int] = {}
    seen: set[str] = set()
    for _ in range(700):
        world.run(0.1)
        living = world.living("worker/")
        assert len(living) <= 1, [process.key for process in living]
        for name in ("db", "ui"):
            if ("Lock", name) in world.disk.objects:
                token = lock(world, name).token
                assert token >= tokens.get(name, 0)
                tokens[name] = token
        seen |= {process.key for process in living}
        fate = chance.random()
        if fate < 0.02:
            world.kill_controller()
        elif fate < 0.03:
            world.kill_launcher()
        elif fate < 0.032:
            world.reboot()
        elif fate < 0.06 and living:
            world.crash(living[0], 1)
    world.run_until(lambda: len(world.living("worker/")) == 1)
    assert len(seen) > 1 and tokens["db"] > 3
