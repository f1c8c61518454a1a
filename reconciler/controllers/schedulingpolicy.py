"""Keeps what is said of a SchedulingPolicy; the queues of the pools that name it take a change over at once.

Reads:   the SchedulingPolicy.
Writes:  its status, and its end: nothing of it runs, so it goes at once.
Wakes:   on any change of it.
"""

from __future__ import annotations

from datetime import datetime

from reconciler.controllers.base import Plan, Remove, SetStatus, World
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool
from reconciler.resources.scheduling import SchedulingPolicy, SchedulingPolicySpec, SchedulingPolicyStatus


def plan(key: Key, world: World, now: datetime) -> Plan:
    """What is said of one SchedulingPolicy."""
    policy = world.get(SchedulingPolicy, key.name)
    if policy is None:
        return Plan()
    if policy.metadata.deleted_at is not None:
        return Plan((Remove(key),))
    status = SchedulingPolicyStatus(observed_generation=policy.metadata.generation)
    return Plan((SetStatus(key, status),)) if status != policy.status else Plan()


def of_pool(pool: Pool, world: World) -> SchedulingPolicySpec:
    """What the pool has written, or the SchedulingPolicy that it names; FIFO where that is gone."""
    if pool.spec.tasks is None:
        return SchedulingPolicySpec()
    written = pool.spec.tasks.scheduling
    if written.ref is None:
        return written
    named = world.get(SchedulingPolicy, written.ref)
    return named.spec if named is not None else SchedulingPolicySpec()
