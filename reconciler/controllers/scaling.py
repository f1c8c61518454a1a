"""How many workers or slots an autoscaled pool has from now on: what is seen of it, and what follows.

queue, samples  ->  Seen  ->  policies/scaling.decide  ->  status.desiredReplicas, an event that says why

Reads:   the Pool, its queue, what it and the host use.
Writes:  nothing: it is the part of the pool's plan that comes first.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from reconciler.controllers.base import Action, Mode, Record, SetStatus, World
from reconciler.policies.scaling import Seen, decide
from reconciler.resources.event import event
from reconciler.resources.meta import Wish
from reconciler.resources.pool import Pool
from reconciler.resources.task import TaskState
from reconciler.resources.units import from_ms, to_ms


class Scaled(NamedTuple):
    """The pool with its new size, what says so, and when to look again."""

    pool: Pool
    actions: tuple[Action, ...] = ()
    look_at: datetime | None = None


def scaled(pool: Pool, world: World, now: datetime) -> Scaled:
    """One decision about an autoscaled pool; others stay as they are, and so does one that somebody has stopped."""
    scale = pool.spec.autoscale
    standing = pool.metadata.standing(now)
    resting = pool.metadata.stopped(now) is not None or (standing is not None and standing.wish is Wish.PAUSED)
    if scale is None or resting or world.mode is not Mode.RUNNING:
        return Scaled(pool)
    status = pool.status
    current = status.desired_replicas
    decision = decide(scale, status.scaled_at, status.wanted_lately, _seen(pool, current, world, now), now)
    step = decision.step
    actions: tuple[Action, ...] = ()
    status = status.changed(wanted_lately=decision.wanted)
    if step is not None:
        scaled_at = now if step.waits else status.scaled_at
        status = status.changed(desired_replicas=step.slots, scaled_at=scaled_at)
        word, unit = "ScaledUp" if step.slots > current else "ScaledDown", "slots" if pool.spec.slots else "workers"
        actions = (Record(event(pool.key, word, f"from {current} to {step.slots} {unit}: {step.why}", now)),)
    elif decision.held:
        actions = (Record(event(pool.key, "ScaleUpHeld", decision.held, now)),)
    if status != pool.status:
        actions = (SetStatus(pool.key, status), *actions)
    look_at = decision.look_at
    due_ms = None if status.desired_replicas or pool.spec.tasks is None else world.queue(pool.name).next_due_ms
    if due_ms is not None:  # with no slot nobody else waits for it
        look_at = from_ms(due_ms) if look_at is None else min(look_at, from_ms(due_ms))
    return Scaled(pool.changed(status=status), actions, look_at)


def _seen(pool: Pool, current: int, world: World, now: datetime) -> Seen:
    cpu_percent, host_cpu_percent = world.cpu_percent(pool.name), world.cpu_percent()
    if pool.spec.tasks is None:
        return Seen(current, 0, None, cpu_percent, host_cpu_percent)
    queue = world.queue(pool.name)
    queue.ready(0, to_ms(now))  # what has become due waits from now on
    running = queue.counts.get(TaskState.RUNNING.value, 0)
    return Seen(current, running, queue.backlog, cpu_percent, host_cpu_percent)
