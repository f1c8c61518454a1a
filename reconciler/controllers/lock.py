"""Gives a Lock to the first in line, and takes it from who has lost it.

    session asks (API)            -> waiting  \\
    worker's start claims it      -> waiting   >  first come, first served  ->  holder, token + 1
    lease over, process ended     -> out      /

Reads:   the Lock, the Workers that claim it, how long leases last still.
Writes:  the status of the Lock; its end, when it is wanted gone and nobody holds it.
Wakes:   on any change of it, on a claim or an end of a worker, when the next lease is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler.controllers.base import Action, Plan, Record, Remove, SetStatus, World
from reconciler.coordination import lease, waits
from reconciler.resources.event import event
from reconciler.resources.lock import MADE_BY_USE, Lock, LockStatus, LockUse, Waiter
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool
from reconciler.resources.units import format_duration
from reconciler.resources.worker import Worker, WorkerStatus


def plan(key: Key, world: World, now: datetime) -> Plan:
    """Who holds one Lock now."""
    lock = world.get(Lock, key.name)
    if lock is None:
        return Plan()

    def left_s(id: str) -> float:
        return world.lease_left_s(id, lock.spec.lease_duration_s)

    open_ = lock.metadata.deleted_at is None
    step = lease.step(
        lock.spec, lock.status, _claims(lock, world, now), left_s, world.token_floor(lock.name), now, open_
    )
    status = step.status.changed(observed_generation=lock.metadata.generation)
    if not status.holders and (not open_ or (not status.waiting and MADE_BY_USE in lock.metadata.annotations)):
        return Plan((*_lapsed(lock, step, now), Remove(key)))
    status, said = _deadlock(lock, status, world, now)
    actions: tuple[Action, ...] = (*_lapsed(lock, step, now), *said)
    if status != lock.status:
        actions = (SetStatus(key, status), *actions)
    ends = [left_s(one.id) for one in (*status.holders, *status.waiting) if one.leased]
    return Plan(actions, now + timedelta(seconds=max(0.0, min(ends))) if ends else None)


def _claims(lock: Lock, world: World, now: datetime) -> list[Waiter]:
    """The starts of workers that have the lock and still live, then those that want it, in the order of their pools."""
    found: list[Waiter] = []
    for one in lock.status.holders:
        worker = world.get(Worker, one.name.partition("/")[2]) if not one.leased else None
        if worker is not None and worker.status.claims == one.id:
            found.append(one)
    held = {one.id for one in found}
    for pool in world.pools_with_lock(lock.name):
        before = sorted(use.name for use in pool.spec.locks if use.name < lock.name)
        for worker in world.owned_by(pool.key, Worker):
            status = worker.status
            if status.stands_by and status.claims not in held and _has_all(status.claims, before, world):
                found.append(Waiter(id=status.claims, name=str(worker.key), leased=False, since=now))
    return found


def _has_all(claim: str, names: Sequence[str], world: World) -> bool:
    """Several locks are taken in the order of their names by everybody, so no two workers wait for each other."""
    locks = [world.get(Lock, name) for name in names]
    return all(lock is not None and lock.status.holder(claim) is not None for lock in locks)


def _lapsed(lock: Lock, step: lease.Step, now: datetime) -> tuple[Action, ...]:
    after = format_duration(lock.spec.lease_duration_s)
    return tuple(
        Record(
            event(
                lock.key,
                "LeaseExpired",
                f"{one.name} has not renewed token {one.token} for {after}: it is another's",
                now,
                warning=True,
            )
        )
        for one in step.lapsed
    )


def _deadlock(lock: Lock, status: LockStatus, world: World, now: datetime) -> tuple[LockStatus, tuple[Action, ...]]:
    others = [other for other in world.locks() if other.name != lock.name]
    circle = waits.circle([*others, lock.changed(status=status)]) if status.waiting else ""
    circle = circle if str(lock.key) in circle else ""
    if not circle or lock.status.deadlock:
        return status.changed(deadlock=circle), ()
    return status.changed(deadlock=circle), (Record(event(lock.key, "Deadlock", circle, now, warning=True)),)


class Claim(NamedTuple):
    """How a worker's next start stands to the locks of its pool."""

    complete: bool
    """It has them all."""
    tokens: dict[str, int]
    waits: str = ""
    """What it waits for, in words; empty: it has only begun to ask."""
    overdue: str = ""
    """Why it waits no longer."""
    until: datetime | None = None
    """When it waits no longer."""


def claim(pool: Pool, id: str, world: World, now: datetime) -> Claim:
    """Whether the start `id` has all locks of its pool."""
    tokens: dict[str, int] = {}
    for use in pool.spec.locks:
        lock = world.get(Lock, use.name)
        held = lock.status.holder(id) if lock is not None else None
        if held is not None:
            tokens[use.name] = held.token
    for use in sorted(pool.spec.locks, key=lambda use: use.name):
        if use.name not in tokens:
            return _waiting(use, world.get(Lock, use.name), id, tokens, now)
    return Claim(True, tokens)


def _waiting(use: LockUse, lock: Lock | None, id: str, tokens: dict[str, int], now: datetime) -> Claim:
    if lock is None:
        return Claim(False, tokens, f"waits for lock/{use.name}, which is not there")
    names = ", ".join(one.name for one in lock.status.holders[:3])
    waits_for = f"waits for {lock.key}, held by {names}" if names else ""
    waiter = lock.status.waiter(id)
    if use.timeout_s is None or waiter is None:
        return Claim(False, tokens, waits_for)
    until = waiter.since + timedelta(seconds=use.timeout_s)
    timeout = format_duration(use.timeout_s)
    overdue = f"{lock.key} was not had within {timeout}, it is held by {names}" if now >= until else ""
    return Claim(False, tokens, waits_for, overdue, until)


def let_go(status: WorkerStatus) -> WorkerStatus:
    """The status of a worker of which nothing lives and that does not want to start now."""
    return status.changed(claims="", tokens={}) if status.claims or status.tokens else status
