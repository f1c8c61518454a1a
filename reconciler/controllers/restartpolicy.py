"""Keeps what is said of a RestartPolicy; who uses it reads it with every plan.

Reads:   the RestartPolicy.
Writes:  its status, and its end: nothing of it runs, so it goes at once.
Wakes:   on any change of it, as do the workers of the pools that name it.
"""

from __future__ import annotations

from datetime import datetime

from reconciler.controllers.base import Plan, Remove, SetStatus, World
from reconciler.resources.meta import Key
from reconciler.resources.restart import RestartPolicy, RestartPolicyStatus


def plan(key: Key, world: World, now: datetime) -> Plan:
    """What is said of one RestartPolicy."""
    policy = world.get(RestartPolicy, key.name)
    if policy is None:
        return Plan()
    if policy.metadata.deleted_at is not None:
        return Plan((Remove(key),))
    status = RestartPolicyStatus(observed_generation=policy.metadata.generation)
    return Plan((SetStatus(key, status),)) if status != policy.status else Plan()
