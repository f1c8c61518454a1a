"""dependsOn: what is started after what, and stopped before it.

    web dependsOn scorer Available        start: scorer, all ready, web        stop: web, all gone, scorer

It is about the start of a pool only: a worker that crashes comes back whatever has become of what it depends on, and so
does one that is replaced while others of its pool run.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.controllers.base import Mode, World
from reconciler.resources.meta import Key
from reconciler.resources.pool import Dependency, DependencyCondition, Pool
from reconciler.resources.worker import LastExit, Process, Reason, State, Worker


def waits_for(pool: Pool, end: LastExit | None, world: World, now: datetime) -> str:
    """What has to be there before a worker of the pool is started, in words; empty: nothing. `end`: its latest."""
    if end is not None and end.reason not in (Reason.STOPPED, Reason.HOST_REBOOTED):
        return ""
    if any(worker.status.process is not Process.NONE for worker in world.owned_by(pool.key, Worker)):
        return ""
    for dependency in pool.spec.depends_on:
        missing = _missing(dependency, world, now)
        if missing:
            return f"waits for {missing}"
    return ""


def _missing(dependency: Dependency, world: World, now: datetime) -> str:
    pool = world.get(Pool, dependency.name)
    if pool is None or pool.metadata.deleted_at is not None:
        return f"pool/{dependency.name}, which is not there"
    if pool.spec.slots:
        return ""  # its slots are open as soon as it is declared
    workers = world.owned_by(pool.key, Worker)
    enough = len(workers) >= pool.replicas and all(_is(dependency.condition, pool, one, now) for one in workers)
    return "" if enough else f"{pool.key} to be {dependency.condition}"


def _is(condition: DependencyCondition, pool: Pool, worker: Worker, now: datetime) -> bool:
    """A worker that is surplus or has done its work keeps nobody waiting."""
    status = worker.status
    if worker.spec.ordinal >= pool.replicas or status.state is State.COMPLETED:
        return True
    if condition is DependencyCondition.STARTED:
        return status.process is Process.UP
    since = status.ready_since
    return since is not None and since + timedelta(seconds=pool.spec.strategy.min_ready_s) <= now


def held_by(name: str, world: World) -> Pool | None:
    """A pool that depends on this one and is being stopped too: it goes first."""
    if world.mode is Mode.HURRYING:
        return None
    for pool in world.dependents(name):
        stops = world.mode is Mode.STOPPING or pool.metadata.deleted_at is not None
        if stops and _runs(pool, world) and pool.name not in _needed(name, world):
            return pool
    return None


def _runs(pool: Pool, world: World) -> bool:
    if pool.spec.slots:
        return bool(world.queue(pool.name).claimed)
    return any(
        worker.status.process not in (Process.NONE, Process.BLOCKED) for worker in world.owned_by(pool.key, Worker)
    )


def _needed(name: str, world: World) -> set[str]:
    """All that the pool depends on, itself through others too if they were declared in a circle: nobody waits for those."""
    found: set[str] = set()
    left = [name]
    while left:
        pool = world.get(Pool, left.pop())
        for dependency in pool.spec.depends_on if pool is not None else ():
            if dependency.name not in found:
                found.add(dependency.name)
                left.append(dependency.name)
    return found


def neighbours(pool: Pool, world: World) -> list[Key]:
    """The pools whose workers look at this one's."""
    return [*(one.key for one in world.dependents(pool.name)), *(Key("Pool", one.name) for one in pool.spec.depends_on)]
