"""Keeps the declared number of workers up, or the declared number of slots open.

    Pool web, replicas: 3            ->   Worker web-0, web-1, web-2, each with its template's hash
    template changes                 ->   a Revision; the workers take it one after another
    Pool batch, replicas: 4, tasks   ->   a Lane of 4 slots; no workers

Reads:   the Pool, the Workers and Revisions it owns, the counts of its queue.
Writes:  Workers (create, delete, their template), Revisions, the Lane, the status of the Pool.
Wakes:   on any change of either; when a worker becomes available, or a rollout has to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.controllers.base import (
    Action,
    Create,
    Delete,
    Lane,
    Mode,
    Plan,
    Record,
    Remove,
    SetSpec,
    SetStatus,
    World,
)
from reconciler.controllers.revisions import revisions
from reconciler.controllers.scaling import scaled
from reconciler.controllers.suspension import open_slots, slots
from reconciler.controllers.tally import Tally
from reconciler.controllers.worker import stopped_by
from reconciler.policies import rollout
from reconciler.resources.event import Event, event
from reconciler.resources.meta import Condition, Intent, Key, Metadata, Status, Wish, set_condition
from reconciler.resources.pool import (
    Pool,
    PoolStatus,
    Rollout,
    RolloutFailure,
    TaskCounts,
    Template,
    revision_hash,
)
from reconciler.resources.revision import Revision
from reconciler.resources.task import TaskState
from reconciler.resources.units import format_moment
from reconciler.resources.words import are, many
from reconciler.resources.worker import Process, Reason, State, Worker, WorkerSpec


def plan(key: Key, world: World, now: datetime) -> Plan:
    """What brings one Pool closer to its spec."""
    pool = world.get(Pool, key.name)
    if pool is None:
        return Plan()  # its workers see that it is gone, and go
    if pool.metadata.deleted_at is not None:
        return _leave(pool, world.owned_by(key, Worker), world, now)
    pool, actions, look_at = scaled(pool, world, now)
    plan = _slots(pool, world, now) if pool.spec.slots else _workers(pool, world, now)
    return Plan((*actions, *plan.actions), _earliest(look_at, plan.requeue_at))


# Workers.


def _workers(pool: Pool, world: World, now: datetime) -> Plan:
    target, tally = revision_hash(pool), world.tally(pool.name)
    if world.mode is not Mode.RUNNING:
        return Plan(_said(pool, _status(pool, tally, world, target, pool.status.rollout, False, now), now))
    if _stands(pool, tally, target, now):
        settled = pool.status.template_hash == target or all(alike.serves(target) for alike in tally.alike)
        status = _status(pool, tally, world, target, None, settled, now)
        return Plan((*revisions(pool, tally, target, world, now), *_said(pool, status, now)))

    workers = world.owned_by(pool.key, Worker)
    wanted: list[Worker] = []
    surplus: list[Worker] = []
    for worker in workers:
        if worker.metadata.deleted_at is None:
            (wanted if worker.spec.ordinal < pool.replicas else surplus).append(worker)
    stop = pool.metadata.stopped(now)
    good = world.template(pool.name, pool.status.template_hash) if pool.status.template_hash else None
    if stop is None:
        step = _next_step(pool, wanted, target, now)
    elif pool.metadata.held is not None:
        step = rollout.Step(rollout=pool.status.rollout, look_at=stop.until)
    else:  # nothing is up that a rollout could protect
        step = rollout.Step(tuple(w.name for w in wanted if w.spec.template_hash != target), look_at=stop.until)
    onto, template = target, pool.spec.template
    if _goes_back(pool, step.rollout) and good is not None and stop is None:
        step, onto, template = _step_back(pool, wanted, step, now), pool.status.template_hash, good
    newcomers = _newcomers(pool, workers, target, step.rollout, good)
    # Known to be good once, a template stays so: a later crash is no reason to forget it.
    settled = pool.status.template_hash == target or (
        step.rollout is None and not newcomers and all(_serves(w, target) for w in wanted)
    )

    status = _status(pool, tally, world, target, step.rollout, settled, now)
    return Plan(
        (
            *revisions(pool, tally, target, world, now),
            *newcomers,
            *(Delete(w.key, f"scaled down to {pool.replicas}") for w in sorted(surplus, key=_ordinal, reverse=True)),
            *(_replacement(w, onto, template) for w in wanted if step.replace and w.name in step.replace),
            *_said(pool, status, now),
        ),
        _earliest(step.look_at, _next_available_at(pool, wanted, now)),
    )


def _stands(pool: Pool, tally: Tally, target: str, now: datetime) -> bool:
    """Whether every slot has its worker and all are to have the template of today, as nearly always: a thousand of them
    are not looked at, one by one, for nothing."""
    if pool.status.rollout is not None or pool.metadata.stopped(now) is not None or pool.spec.strategy.min_ready_s:
        return False
    return tally.fills(pool.replicas) and all(alike.wanted == target for alike in tally.alike)


def _ordinal(worker: Worker) -> int:
    return worker.spec.ordinal


def _next_step(pool: Pool, wanted: Sequence[Worker], target: str, now: datetime) -> rollout.Step:
    before = pool.status.rollout
    if before is None and {worker.spec.template_hash for worker in wanted} <= {target}:
        return rollout.Step()
    missing = pool.replicas - len(wanted)
    asked = pool.metadata.rollout
    return rollout.next_step(
        [_slot(worker) for worker in wanted],
        target,
        pool.spec.strategy,
        before,
        now,
        missing,
        _shortest_s(pool),
        held=pool.metadata.held is not None,
        resumed_at=asked.at if asked is not None else None,
    )


def _goes_back(pool: Pool, rolling: Rollout | None) -> bool:
    """Whether a rollout has failed and its new workers are to have the template before."""
    wanted = pool.spec.strategy.on_failure is RolloutFailure.ROLLBACK and pool.metadata.held is None
    return wanted and rolling is not None and bool(rolling.failed)


def _step_back(pool: Pool, wanted: Sequence[Worker], step: rollout.Step, now: datetime) -> rollout.Step:
    assert step.rollout is not None, "only what has failed goes back"
    slots = [_slot(worker) for worker in wanted]
    return rollout.step_back(slots, step.rollout, pool.status.template_hash, pool.spec.strategy, now, _shortest_s(pool))


def _shortest_s(pool: Pool) -> float:
    probes = pool.spec.template.probes
    return rollout.SHORTEST_STAY_S if probes.startup is None and probes.readiness is None else 0.0


def _slot(worker: Worker) -> rollout.Slot:
    status = worker.status
    up = status.ready and status.process is Process.UP
    end = status.last_exit
    counts = end is not None and status.failures and end.reason not in (Reason.STOPPED, Reason.HOST_REBOOTED)
    return rollout.Slot(
        name=worker.name,
        wanted=worker.spec.template_hash,
        running=worker.spec.template_hash if status.stands_by else status.template_hash,
        ready_since=status.ready_since if up else None,
        completed=status.state is State.COMPLETED or status.stands_by,
        failed_at=end.at if end is not None and counts else None,
        why=_end_words(worker),
    )


def _serves(worker: Worker, target: str) -> bool:
    status = worker.status
    if status.stands_by:
        return worker.spec.template_hash == target
    return status.template_hash == target and (status.ready or status.state is State.COMPLETED)


def _newcomers(
    pool: Pool, workers: Sequence[Worker], target: str, rolling: Rollout | None, good: Template | None
) -> list[Create]:
    """Workers for slots that have none; after a failed rollout, or in a paused one, with the template that was good before."""
    taken = {worker.spec.ordinal for worker in workers}
    missing = [ordinal for ordinal in range(pool.replicas) if ordinal not in taken]
    if not missing:
        return []
    hash_, template = target, pool.spec.template
    if good is not None and (pool.metadata.held is not None or (rolling is not None and rolling.failed)):
        hash_, template = pool.status.template_hash, good
    return [_new_worker(pool, ordinal, hash_, template) for ordinal in missing]


def _new_worker(pool: Pool, ordinal: int, hash_: str, template: Template) -> Create:
    ports, free = _ports(template, ordinal, {})
    metadata = Metadata(name=f"{pool.name}-{ordinal}", labels=pool.metadata.labels, owner=str(pool.key))
    spec = WorkerSpec(pool=pool.name, ordinal=ordinal, template_hash=hash_, ports=ports)
    return Create(Worker(metadata=metadata, spec=spec), free)


def _replacement(worker: Worker, target: str, template: Template) -> SetSpec:
    ports, free = _ports(template, worker.spec.ordinal, worker.spec.ports)
    return SetSpec(worker.key, worker.spec.changed(template_hash=target, ports=ports), f"template {target}", free)


def _ports(template: Template, ordinal: int, had: dict[str, int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """The slot's port numbers, and the names of those that the machine shall choose; a chosen one stays the slot's."""
    known: dict[str, int] = {}
    free: list[str] = []
    for port in template.ports:
        if port.base is not None:
            known[port.name] = port.base + ordinal
        elif port.port is not None:
            known[port.name] = port.port
        elif port.name in had:
            known[port.name] = had[port.name]
        else:
            free.append(port.name)
    return known, tuple(free)


def _available_at(pool: Pool, worker: Worker) -> datetime | None:
    since = worker.status.ready_since
    return None if since is None else since + timedelta(seconds=pool.spec.strategy.min_ready_s)


def _next_available_at(pool: Pool, workers: Sequence[Worker], now: datetime) -> datetime | None:
    if not pool.spec.strategy.min_ready_s:
        return None
    return _earliest(*(at for worker in workers if (at := _available_at(pool, worker)) is not None and at > now))


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((at for at in moments if at is not None), default=None)


# Slots for tasks.


def _slots(pool: Pool, world: World, now: datetime) -> Plan:
    target, tally = revision_hash(pool), world.tally(pool.name)
    if workers := world.owned_by(pool.key, Worker):
        deletions = tuple(Delete(w.key, "the pool runs tasks now") for w in workers if w.metadata.deleted_at is None)
        status = _status(pool, tally, world, "", None, False, now)
        return Plan((*deletions, *_said(pool, status, now)))
    stop, standing = pool.metadata.stopped(now), pool.metadata.standing(now)
    paused = standing is not None and standing.wish is Wish.PAUSED
    desired, open_ = pool.replicas, open_slots(pool, world, now)
    ready = (Status.TRUE, "SlotsOpen", many(open_, "slot")) if open_ else (Status.FALSE, "NoSlots", "no slot is open")
    if not desired and pool.spec.autoscale is not None:
        ready = (Status.TRUE, "ScaledToZero", "no slot is open, for nothing waits")
    if stop is not None:
        ready = (Status.FALSE, "Stopped", stopped_by(stop))
    elif standing is not None and paused:
        ready = (Status.FALSE, "Paused", paused_by(standing))
    elif standing is not None and standing.wish is Wish.DRAINING:
        ready = (ready[0], "Draining", paused_by(standing))
    conditions = pool.status.conditions
    conditions = set_condition(conditions, "Ready", *ready, now)
    conditions = set_condition(conditions, "Progressing", Status.FALSE, "Complete", "", now)
    conditions = set_condition(conditions, "Degraded", Status.FALSE, "AsExpected", "", now)
    conditions = _stopped(conditions, stop, world.queue(pool.name).claimed, now)
    status = pool.status.changed(
        observed_generation=pool.metadata.generation,
        desired_replicas=desired,
        replicas=open_,
        running_replicas=open_,
        ready_replicas=open_,
        available_replicas=open_,
        updated_replicas=open_,
        template_hash=target,
        restarts=0,
        rollout=None,
        conditions=conditions,
        tasks=_task_counts(world.queue(pool.name).counts),
    )
    still = world.queue(pool.name).still
    lane = Lane(pool.name, slots(pool, world, now, still), target, still)
    return Plan(
        (*revisions(pool, tally, target, world, now), lane, *_said(pool, status, now)),
        standing.until if standing is not None else None,
    )


def paused_by(standing: Intent) -> str:
    """An operator's pause or drain in words: `drained by user root until ...: maintenance`."""
    word = "drained" if standing.wish is Wish.DRAINING else "paused"
    until = f" until {format_moment(standing.until)}" if standing.until is not None else ""
    return f"{word} by {standing.actor}{until}" + (f": {standing.reason}" if standing.reason else "")


def _task_counts(counts: dict[str, int]) -> TaskCounts:
    def of(*states: TaskState) -> int:
        return sum(counts.get(state, 0) for state in states)

    return TaskCounts(
        pending=of(TaskState.PENDING, TaskState.DELAYED, TaskState.RETRYING),
        running=of(TaskState.RUNNING),
        succeeded=of(TaskState.SUCCEEDED),
        failed=of(TaskState.FAILED),
        dead_lettered=of(TaskState.DEAD_LETTERED),
        expired=of(TaskState.EXPIRED),
        cancelled=of(TaskState.CANCELLED),
        unknown=of(TaskState.UNKNOWN),
    )


# The end of a pool: it goes when nothing of it runs.


def _leave(pool: Pool, workers: Sequence[Worker], world: World, now: datetime) -> Plan:
    reason = f"pool/{pool.name} deleted"
    actions: list[Action] = [Delete(w.key, reason) for w in workers if w.metadata.deleted_at is None]
    queue = world.queue(pool.name) if pool.spec.tasks is not None else None
    if pool.spec.slots:
        actions.append(Lane(pool.name, 0, revision_hash(pool)))
    if not workers and (queue is None or not queue.claimed):
        actions.extend(Remove(revision.key) for revision in world.owned_by(pool.key, Revision))
        return Plan((*actions, Remove(pool.key)))

    waits = f"{are(len(workers), 'worker')} being stopped" if workers else "tasks are being stopped"
    conditions = set_condition(pool.status.conditions, "Ready", Status.FALSE, "Deleting", waits, now)
    conditions = set_condition(conditions, "Progressing", Status.TRUE, "Deleting", waits, now)
    status = pool.status.changed(
        observed_generation=pool.metadata.generation,
        replicas=len(workers),
        running_replicas=sum(worker.status.process is not Process.NONE for worker in workers),
        ready_replicas=0,
        available_replicas=0,
        conditions=conditions,
        tasks=_task_counts(queue.counts) if queue is not None else None,
    )
    return Plan((*actions, *_said(pool, status, now)))


# What is said.


@dataclass(slots=True)
class _Count:
    total: int = 0
    running: int = 0
    leaving: int = 0
    ready: int = 0
    available: int = 0
    updated: int = 0
    restarts: int = 0
    completed: int = 0
    failed: int = 0
    standing_by: int = 0
    """Workers that lack nothing but a lock that another has."""
    waits: str = ""
    """What a worker waits for before it is started."""
    ill: int = 0
    first_ill: Worker | None = None
    """Workers in trouble, and the first of them."""


def _status(
    pool: Pool, tally: Tally, world: World, target: str, rolling: Rollout | None, settled: bool, now: datetime
) -> PoolStatus:
    count = _counts(pool, tally, world, target, now)
    conditions = pool.status.conditions
    stop = pool.metadata.stopped(now)
    for type_, (status, reason, message) in (
        ("Ready", _ready(pool, count, stop)),
        ("Progressing", _progressing(pool, count, rolling)),
        ("Degraded", _degraded(count, rolling)),
    ):
        conditions = set_condition(conditions, type_, status, reason, message, now)
    left = count.running
    if stop is not None:
        state = are(left, "worker") + " being stopped" if left else ""
        conditions = set_condition(
            conditions, "Progressing", _truth(left > 0), "Stopping" if left else "Stopped", state, now
        )
    conditions = _stopped(conditions, stop, left, now)
    return pool.status.changed(
        observed_generation=pool.metadata.generation,
        desired_replicas=pool.replicas,
        replicas=count.total,
        running_replicas=count.running,
        ready_replicas=count.ready,
        available_replicas=count.available,
        updated_replicas=count.updated,
        restarts=count.restarts,
        template_hash=target if settled else pool.status.template_hash,
        rollout=rolling,
        conditions=conditions,
        tasks=_task_counts(world.queue(pool.name).counts) if pool.spec.warm else None,
    )


def _truth(value: bool) -> Status:
    return Status.TRUE if value else Status.FALSE


def _stopped(conditions: tuple[Condition, ...], stop: Intent | None, left: int, now: datetime) -> tuple[Condition, ...]:
    """`Stopped` is said of pools that an operator has stopped once: True when nothing of it is left."""
    if stop is None:
        return tuple(condition for condition in conditions if condition.type != "Stopped")
    return set_condition(conditions, "Stopped", _truth(left == 0), "ByOperator", stopped_by(stop), now)


def _counts(pool: Pool, tally: Tally, world: World, target: str, now: datetime) -> _Count:
    count = _Count(restarts=tally.restarts, ill=len(tally.troubled))
    if tally.troubled:
        count.first_ill = world.get(Worker, tally.troubled[0][1])
    waits = False
    for alike, number in tally.alike.items():
        count.running += number * alike.alive
        if alike.leaving:
            count.leaving += number
            continue
        count.total += number
        count.updated += number * (alike.wanted == alike.running == target)
        if alike.stands_by:
            count.standing_by += number
            count.updated += number * (alike.running != alike.wanted == target)
        if alike.ready:
            count.ready += number
        elif alike.waits:
            waits = True
        elif alike.state is State.COMPLETED:
            count.completed += number
        elif alike.state is State.FAILED:
            count.failed += number
    count.available = count.ready
    min_ready = timedelta(seconds=pool.spec.strategy.min_ready_s)
    if count.ready and min_ready:
        since = [worker.status.ready_since for worker in _staying(pool, world) if worker.status.ready]
        count.available = sum(at is not None and at + min_ready <= now for at in since)
    if waits and (pool.spec.depends_on or pool.spec.locks):
        messages = [w.status.message for w in _staying(pool, world) if w.status.state is State.PENDING]
        count.waits = next((message for message in reversed(messages) if message), "")
    return count


def _staying(pool: Pool, world: World) -> list[Worker]:
    return [worker for worker in world.owned_by(pool.key, Worker) if worker.metadata.deleted_at is None]


_Word = tuple[Status, str, str]


def _ready(pool: Pool, count: _Count, stop: Intent | None) -> _Word:
    want = pool.replicas
    if stop is not None:
        return Status.FALSE, "Stopped", stopped_by(stop)
    message = f"{count.ready} of {want} workers are ready"
    if count.ready >= want:
        return Status.TRUE, "AllReady", message
    if count.ready and count.ready + count.standing_by >= want:
        return Status.TRUE, "AllReady", f"{message}, the others stand by: {count.waits}"
    if count.completed >= want:
        return Status.FALSE, "Completed", f"all {want} workers have done their work"
    return Status.FALSE, "NotAllReady", message


def _progressing(pool: Pool, count: _Count, rolling: Rollout | None) -> _Word:
    want = pool.replicas
    message = f"{count.updated} of {want} workers have template {rolling.template_hash}" if rolling else ""
    if rolling is not None and rolling.failed:
        return Status.FALSE, "RolloutFailed", f"{rolling.failed}; {message}"
    held = pool.metadata.held
    if held is not None:
        waits = f"a change of the template waits: {message}" if rolling is not None else "no change waits"
        return Status.FALSE, "RolloutPaused", f"{paused_by(held)}; {waits}"
    if rolling is not None:
        return Status.TRUE, "RollingOut", message
    coming = want - count.ready - count.completed - count.failed - (count.standing_by if count.ready else 0)
    if coming > 0 and count.waits:
        return Status.TRUE, "Waiting", count.waits
    if coming > 0:
        return Status.TRUE, "Starting", f"{are(coming, 'worker')} not up"
    surplus = count.leaving + max(0, count.total - want)
    if surplus:
        return Status.TRUE, "ScalingDown", f"{are(surplus, 'worker')} being stopped"
    if count.failed:
        return Status.FALSE, "WorkerFailed", f"{are(count.failed, 'worker')} not started again"
    return Status.FALSE, "Complete", ""


_TROUBLES = {
    State.BACKOFF: "CrashLoop",
    State.FAILED: "WorkerFailed",
    State.STOP_STUCK: "StopStuck",
    State.UNKNOWN: "SlotBlocked",
}


def _degraded(count: _Count, rolling: Rollout | None) -> _Word:
    """The first worker in trouble, by name, and how many more there are."""
    worker = count.first_ill
    if worker is not None:
        status = worker.status
        reason = _TROUBLES[status.state]
        if reason == "CrashLoop" and status.last_exit is not None and status.last_exit.reason is Reason.START_FAILED:
            reason = "StartFailed"
        message = f"worker/{worker.name}: {status.message or _end_words(worker)}"
        if status.next_start_at is not None:
            message += f"; next start at {format_moment(status.next_start_at)}"
        more = count.ill - 1
        return Status.TRUE, reason, f"{message}; and {more} more" if more else message
    if rolling is not None and rolling.failed:
        return Status.TRUE, "RolloutFailed", rolling.failed
    return Status.FALSE, "AsExpected", ""


def _end_words(worker: Worker) -> str:
    end = worker.status.last_exit
    if end is None:
        return ""
    if end.reason is Reason.START_FAILED:
        return f"start failed: {end.message}"
    if end.signal is not None:
        return end.signal
    return f"exit code {end.code}" if end.code is not None else str(end.reason)


def _said(pool: Pool, status: PoolStatus, now: datetime) -> tuple[Action, ...]:
    if status == pool.status:
        return ()
    return (SetStatus(pool.key, status), *(Record(one) for one in _rollout_events(pool, status, now)))


def _rollout_events(pool: Pool, status: PoolStatus, now: datetime) -> list[Event]:
    before, after = pool.status.rollout, status.rollout
    said = []
    if after is not None and (before is None or before.template_hash != after.template_hash):
        said.append(event(pool.key, "RolloutStarted", f"template {after.template_hash}, one after another", now))
    if after is not None and after.failed and (before is None or before.failed != after.failed):
        back = pool.spec.strategy.on_failure is RolloutFailure.ROLLBACK and status.template_hash
        then = f"all go back to template {status.template_hash}" if back else "the other workers keep their template"
        message = f"{after.failed}; {then}"
        said.append(event(pool.key, "RolloutFailed", message, now, warning=True))
    if before is not None and after is None and status.template_hash == before.template_hash:
        said.append(event(pool.key, "RolloutComplete", f"template {before.template_hash}", now))
    return said
