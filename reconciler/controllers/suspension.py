"""Which running tasks of a pool stand still while others run: `demotion: Suspend` of MultiLevelFeedback.

    slots: 2    level 0 | W |            waits
                level 1 | A runs |       A and W have the slots,
                level 2 | B runs |       B is stopped until one of them is free again

The best run, as many as there are slots: the highest level first, then what runs before what stands still before what has
not begun. Each that stands still keeps its place in the launcher, so its lane has one slot more.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from reconciler.controllers.base import (
    Action,
    Continue,
    Lane,
    Mode,
    Queue,
    Record,
    Suspend,
    Suspension,
    World,
)
from reconciler.resources.event import event
from reconciler.resources.meta import Key, Wish
from reconciler.resources.pool import Pool, revision_hash


class Moves(NamedTuple):
    """Tasks that are stopped, and tasks that go on."""

    stop: tuple[int, ...]
    go: tuple[int, ...]


def moves(seen: Suspension, slots: int) -> Moves:
    """What brings the best to run."""
    if not seen.demotes or not slots:  # nobody is stopped any more, and what stands still is not kept from its end
        return Moves((), tuple(task.id for task in seen.begun if task.suspended))
    order = sorted(
        [(task.level, task.suspended, place, task) for place, task in enumerate(seen.begun)]
        + [(level, 2, place, None) for place, level in enumerate(seen.waiting)],
        key=lambda one: one[:3],
    )
    best = {task.id for _, _, _, task in order[:slots] if task is not None}
    return Moves(
        tuple(task.id for task in seen.begun if not task.suspended and task.id not in best),
        tuple(task.id for task in seen.begun if task.suspended and task.id in best),
    )


def plan(pool: Pool, queue: Queue, world: World, now: datetime, now_ms: int) -> list[Action]:
    """Stops and goes, and the slots that follow from them."""
    seen = queue.suspension(pool.replicas, now_ms)
    if seen is None or world.mode is not Mode.RUNNING:
        return []
    found = moves(seen, pool.replicas)
    actions: list[Action] = []
    for task_id in found.stop:
        said = f"task/{task_id} has used up its quantum and others wait: it stands still until a slot is free for its level"
        actions.append(Record(event(Key("Pool", pool.name), "TaskSuspended", said, now)))
    stop = (*found.stop, *(task_id for task_id in seen.unsaid if task_id not in found.go))
    if stop:
        actions.append(Suspend(pool.name, stop))
    if found.go:
        actions.append(Continue(pool.name, found.go))
    still = queue.still + len(found.stop) - len(found.go)
    if still != seen.lane:
        actions.append(Lane(pool.name, slots(pool, world, now, still), revision_hash(pool), still))
    return actions


def slots(pool: Pool, world: World, now: datetime, still: int) -> int:
    """How many slots the launcher is told of: those that are open, and one for each task that stands still."""
    open_ = open_slots(pool, world, now)
    return open_ + still if open_ else 0


def open_slots(pool: Pool, world: World, now: datetime) -> int:
    """In how many tasks may begin now: what waits in the launcher must not, when the pool is stopped or paused."""
    standing = pool.metadata.standing(now)
    held = standing is not None and standing.wish in (Wish.STOPPED, Wish.PAUSED)
    return pool.replicas if world.mode is Mode.RUNNING and not held else 0
