"""Keeps one slot's process as it is wanted: started, started again after a wait, asked to end, killed.

    None --Spawn--> Asked --> Up --Signal--> (grace) --SIGKILL--> Emptying --> None
     ^                        | (its probes: Starting, Running, Ready) ^         | counted once:
     |                        +--------------- ends -----------------+          | failures, backoff, Failed, Completed
     +---------------------------- wait until nextStartAt <---------------------+
    Blocked: nobody knows whether it lives, so nothing is started

Reads:   the Worker and its Pool. What the process does is in `status` before: the observer wrote it.
Writes:  starts and signals; the status of the Worker, all but what the observer knows; the Worker's end.
Wakes:   on any change of either, at the next start, at the end of a grace period.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from reconciler.controllers import dependencies
from reconciler.controllers import lock as locks
from reconciler.controllers.base import (
    Action,
    Cleanup,
    EndPreStop,
    Mode,
    Plan,
    PreStop,
    Record,
    Remove,
    SetStatus,
    Signal,
    Spawn,
    WorkerLine,
    World,
)
from reconciler.controllers.restart import Outcome, counted, decided, rest_decided, rules_of, start_or_rest, words
from reconciler.policies import probe
from reconciler.resources.event import Event, event
from reconciler.resources.meta import Intent, Key
from reconciler.resources.pool import Pool, Template
from reconciler.resources.probe import Health, Probes
from reconciler.resources.units import format_duration, format_moment, rough_duration
from reconciler.resources.worker import (
    LastExit,
    PreStopState,
    Process,
    Reason,
    State,
    Stopping,
    Worker,
    WorkerStatus,
)

KILL_AGAIN_S = 5.0
"""SIGKILL is repeated this often while something lives: the order may have died with the controller that gave it."""

AFTER_PRE_STOP_S = 2.0
"""A worker whose preStop has used the grace period up still has this long from its stop signal on."""

CRASH_LOOP_AT = 3
"""So many failures in a row are called a crash loop."""


def plan(key: Key, world: World, now: datetime) -> Plan:
    """What brings the process of one Worker closer to its spec."""
    worker = world.get(Worker, key.name)
    if worker is None:
        return Plan()
    pool = world.get(Pool, worker.spec.pool)
    match worker.status.process:
        case Process.NONE if worker.status.pre_stops:
            return _outlived(worker, world.mode, now)
        case Process.NONE:
            return _down(worker, pool, world, now)
        case Process.ASKED:
            state = State.STOPPING if _unwanted(worker, pool, world.mode, now) else State.STARTING
            return _says(worker, worker.status.changed(state=state))
        case Process.UP:
            return _up(worker, pool, world, now)
        case Process.EMPTYING:
            return _emptying(worker, now)
        case Process.BLOCKED:
            return _blocked(worker, now)


def _unwanted(worker: Worker, pool: Pool | None, mode: Mode, now: datetime) -> str:
    """Why no process is wanted here; empty if one is."""
    if pool is None or pool.metadata.deleted_at is not None:
        return f"pool/{worker.spec.pool} deleted"
    if worker.metadata.deleted_at is not None:
        return "scaled down" if worker.spec.ordinal >= pool.replicas else "deleted"
    if mode is not Mode.RUNNING:
        return "shutdown"
    stop = pool.metadata.stopped(now)
    return stopped_by(stop) if stop is not None else ""


def stopped_by(stop: Intent) -> str:
    """An operator's stop in words: `stopped by user root: maintenance`."""
    until = f" until {format_moment(stop.until)}" if stop.until is not None else ""
    return f"stopped by {stop.actor}{until}" + (f": {stop.reason}" if stop.reason else "")


# Nothing of it lives: it is counted once, and then started, kept waiting, or gone.


def _down(worker: Worker, pool: Pool | None, world: World, now: datetime) -> Plan:
    rules = rules_of(pool, world)
    status = locks.let_go(counted(worker.status, rules, now))
    ended = status.counted != worker.status.counted
    actions = _cleanup(worker, pool, world) if ended else ()
    unwanted = _unwanted(worker, pool, world.mode, now)
    if pool is None or pool.metadata.deleted_at is not None or worker.metadata.deleted_at is not None:
        return Plan((*actions, *(_end_events(worker, status, False, now) if ended else ()), Remove(worker.key)))
    if unwanted:
        status = status.changed(state=_resting_state(status), stopping=None, stuck=False)
        said = _end_events(worker, status, False, now) if ended else ()
        stop = pool.metadata.stopped(now)
        if stop is not None:
            status = status.changed(message=unwanted)
        return _says(worker, status, (*actions, *said), stop.until if stop is not None else None)

    outcome = start_or_rest(worker, pool, status, rules, world, now)
    waits = dependencies.waits_for(pool, status.last_exit, world, now) if outcome.start and pool.spec.depends_on else ""
    if waits:
        outcome = Outcome(status.changed(state=State.PENDING, message=waits), "", "dependsOn")
        if waits != worker.status.message:
            actions = (*actions, Record(event(worker.key, "Waiting", waits, now)))
    until = None
    if outcome.start and pool.spec.locks:
        claim = locks.claim(pool, _next_instance(worker, status), world, now)
        if claim.overdue:
            return _says(worker, _not_had(worker, status, claim.overdue, now), actions)
        if not claim.complete:
            waiting = status.changed(state=State.PENDING, message=claim.waits, claims=_next_instance(worker, status))
            outcome, until = Outcome(waiting, "", "locks"), claim.until
        else:
            outcome = outcome._replace(status=outcome.status.changed(tokens=claim.tokens))
    status, actions = outcome.status, (*actions, *outcome.actions)
    rests = not outcome.start
    if ended:
        actions = (*actions, *_end_events(worker, status, rests, now))
    if rests and status.admitted != worker.status.admitted:
        actions = (*actions, _spent(worker, status, outcome.rule, now))
    if outcome.start:
        return Plan((*actions, _spawn(worker, pool, status, outcome, now)))
    status = rest_decided(worker.status, status, outcome.rule, now)
    return _says(worker, status, actions, status.next_start_at if status.state is State.BACKOFF else until)


def _next_instance(worker: Worker, status: WorkerStatus) -> str:
    return f"{worker.metadata.uid}.{status.starts + 1}"


def _not_had(worker: Worker, status: WorkerStatus, why: str, now: datetime) -> WorkerStatus:
    """A start that could not have its lock in time has failed, like any other start."""
    instance = _next_instance(worker, status)
    end = LastExit(reason=Reason.START_FAILED, step="lock", message=why, at=now, instance=instance)
    return status.changed(
        instance=instance,
        previous_instance=status.instance,
        template_hash=worker.spec.template_hash,
        starts=status.starts + 1,
        started_at=None,
        last_exit=end,
    )


def _resting_state(status: WorkerStatus) -> State:
    return status.state if status.state in (State.FAILED, State.COMPLETED, State.BACKOFF) else State.PENDING


def _spent(worker: Worker, status: WorkerStatus, why: str, now: datetime) -> Record:
    assert status.next_start_at is not None, "who has to wait for a budget has a moment"
    message = f"{why}; next start at {format_moment(status.next_start_at)}"
    return Record(event(worker.key, "BudgetSpent", message, now, warning=True))


def _spawn(worker: Worker, pool: Pool, status: WorkerStatus, outcome: Outcome, now: datetime) -> Spawn:
    number, reason = status.starts + 1, outcome.start
    instance = _next_instance(worker, status)
    status = decided(status, now, "Start", f"start {number}, as {instance}", reason, outcome.rule, pool)
    asked = status.changed(
        state=State.STARTING,
        process=Process.ASKED,
        instance=instance,
        previous_instance=status.instance,
        template_hash=worker.spec.template_hash,
        starts=number,
        started_at=None,
        next_start_at=None,
        pid=None,
        ready=False,
        adopted=False,
        stopping=None,
        stuck=False,
        health=None,
        message="",
        claims=instance if pool.spec.locks else "",
    )
    return Spawn(worker.key, instance, worker.spec.template_hash, asked, reason)


def _cleanup(worker: Worker, pool: Pool | None, world: World) -> tuple[Action, ...]:
    files = _template(worker, pool, world).cleanup.files
    ran = world.template(worker.spec.pool, worker.status.template_hash)
    private = ran is not None and ran.sandbox.private_tmp
    return (Cleanup(worker.key, tuple(files)),) if files or private else ()


# It runs.


def _up(worker: Worker, pool: Pool | None, world: World, now: datetime) -> Plan:
    status = worker.status
    unwanted = _unwanted(worker, pool, world.mode, now)
    if not unwanted and status.template_hash != worker.spec.template_hash:
        unwanted = f"template {worker.spec.template_hash}"
    line = world.line(worker.name) if pool is not None and pool.spec.warm else None
    if line is not None and not unwanted and line.retire and (line.at_once or not line.held):
        unwanted = line.retire
    if unwanted and status.stopping is None and dependencies.held_by(worker.spec.pool, world):
        return Plan()  # others that need it are stopped first; their end wakes this one
    if pool is None or unwanted or status.stopping is not None:
        hurry = world.mode is Mode.HURRYING
        return _stop(worker, pool, _template(worker, pool, world), unwanted, hurry, now, line)

    probes = pool.spec.template.probes
    health = _health(status, probes, now) if probes.present else None
    if health is not None and health.dead:
        said = Record(event(worker.key, "Unhealthy", f"{health.dead}; it is stopped", now, warning=True))
        stop = _stop(worker, pool, pool.spec.template, health.dead, False, now)
        return Plan((said, *stop.actions), stop.requeue_at)

    requeue_at = None
    since = status.started_at if health is None else health.ready_since
    if status.failures and since is not None:
        reset_after_s = rules_of(pool, world).spec.backoff.reset_after_s
        healthy_at = since + timedelta(seconds=reset_after_s)
        if now >= healthy_at:
            because = f"it has been up for {format_duration(reset_after_s)}"
            status = decided(status.changed(failures=0), now, "Forgive", "the next restart is at once", because)
        requeue_at = healthy_at if now < healthy_at else None
    said_now = tuple(Record(one) for one in _up_events(worker, health, now))
    running = _running(status, health)
    if pool.spec.warm and not (line is not None and line.ready) and running.ready:
        running = running.changed(state=State.RUNNING, ready=False, message="it has not said that it is ready")
    return _says(worker, running, said_now, requeue_at)


def _health(status: WorkerStatus, probes: Probes, now: datetime) -> Health:
    """What its probes have found, or what is taken for true before they have answered."""
    if status.probed is not None:
        return probe.follow(status.probed, probes, now)
    return probe.begin(probes, status.instance, status.state is State.READY, status.started_at)


def _running(status: WorkerStatus, health: Health | None) -> WorkerStatus:
    if health is None:
        if status.state is State.READY and status.ready and status.health is None and not status.message:
            return status  # as nearly all of a thousand are, each time all are looked at
        return status.changed(state=State.READY, ready=True, health=None, message="")
    state = State.READY if health.ready else State.RUNNING if health.started else State.STARTING
    return status.changed(state=state, ready=health.ready, health=health, message=health.message)


def _up_events(worker: Worker, health: Health | None, now: datetime) -> list[Event]:
    """Its start, seen for the first time; later that it is ready, or is not any more."""
    status = worker.status
    said = []
    if status.state is not State.READY and status.probed is None:
        word = "Adopted" if status.adopted else "Started"
        said.append(event(worker.key, word, f"{word.lower()} with pid {status.pid}", now))
    elif health is not None and health.ready and not status.ready:
        said.append(event(worker.key, "Ready", "its probes say that it is ready", now))
    elif health is not None and status.ready and not health.ready:
        said.append(event(worker.key, "Unready", health.message, now, warning=True))
    return said


def _stop(
    worker: Worker,
    pool: Pool | None,
    template: Template,
    reason: str,
    hurry: bool,
    now: datetime,
    line: WorkerLine | None = None,
) -> Plan:
    """The stop signal once, then SIGKILL at the deadline and again while it lives; a stop that has begun is carried through.

    A warm worker gets the signal when it has answered what it has, unless it has to end because of that.
    """
    status = worker.status
    latest = now + timedelta(seconds=template.stop.grace_period_s)
    stopping = status.stopping or Stopping(reason=reason, since=now, deadline=latest)
    if status.stopping is None:
        grace = format_duration(template.stop.grace_period_s)
        first = "" if template.stop.pre_stop is None or hurry else "preStop, "
        if first:
            stopping = stopping.changed(pre_stop=PreStopState.WANTED)
        status = decided(
            status, now, "Stop", f"{first}{template.stop.signal}, and SIGKILL after {grace}", reason, "", pool
        )
    if not stopping.killed and stopping.deadline > latest:
        stopping = stopping.changed(deadline=latest)  # the clock was set back, or the grace period made shorter

    if line is not None and (line.kill or line.fault) and not stopping.killed:
        stopping = stopping.changed(deadline=now, pre_stop=None, fault=line.fault)
    busy = line is not None and line.held > 0 and not line.at_once
    stopping, said = _before_signal(worker, template, stopping, hurry, now)
    if stopping.pre_stop is PreStopState.RUNNING:
        status = status.changed(ready=False, stopping=stopping, state=State.STOPPING, message=stopping.reason)
        return _says(worker, status, said, stopping.deadline)
    if now >= stopping.deadline or (hurry and not stopping.killed):
        if not stopping.killed:
            why = (
                "no grace left"
                if hurry
                else f"still there {rough_duration(_age_s(stopping, now))} after the stop signal"
            )
            killed = Record(event(worker.key, "Killed", f"SIGKILL to its whole tree: {why}", now, warning=True))
            said = (*said, killed)
            status = decided(status, now, "Kill", "SIGKILL to its whole tree", why)
        said = (*said, Signal(worker.key, status.instance, "SIGKILL", tree=True, reason=stopping.reason))
        deadline = now + timedelta(seconds=KILL_AGAIN_S)
        stopping = stopping.changed(signalled=True, killed=True, deadline=deadline)
    elif not stopping.signalled and not busy:
        asks = Signal(worker.key, status.instance, template.stop.signal, tree=False, reason=stopping.reason)
        said = (*said, asks)
        stopping = stopping.changed(signalled=True)
    status = status.changed(ready=False, stopping=stopping, state=State.STOPPING, message=stopping.reason)
    status, stuck = _stuck(worker, status, now)
    return _says(worker, status, (*stuck, *said), stopping.deadline)


def _before_signal(
    worker: Worker, template: Template, stopping: Stopping, hurry: bool, now: datetime
) -> tuple[Stopping, tuple[Action, ...]]:
    """The command before the stop signal: run once, for as long as the grace period lasts; then the worker gets its 2 s."""
    instance, how = worker.status.instance, template.stop.pre_stop
    late = hurry or now >= stopping.deadline
    said: tuple[Action, ...] = ()
    if stopping.pre_stop is PreStopState.WANTED:
        if how is not None and not late:
            command = tuple(how.exec.command)
            return stopping.changed(pre_stop=PreStopState.RUNNING), (PreStop(worker.key, instance, command),)
        stopping = stopping.changed(pre_stop=PreStopState.OVER)
    elif stopping.pre_stop is PreStopState.RUNNING and late:
        stopping, said = _pre_stop_late(worker, stopping, now)
    if stopping.pre_stop is PreStopState.OVER and not stopping.signalled and not hurry:
        stopping = stopping.changed(deadline=max(stopping.deadline, now + timedelta(seconds=AFTER_PRE_STOP_S)))
    return stopping, said


def _pre_stop_late(worker: Worker, stopping: Stopping, now: datetime) -> tuple[Stopping, tuple[Action, ...]]:
    message = f"preStop has not ended within {rough_duration(_age_s(stopping, now))} and is killed; the stop goes on"
    said = Record(event(worker.key, "PreStopFailed", message, now, warning=True))
    return stopping.changed(pre_stop=PreStopState.OVER), (EndPreStop(worker.key, worker.status.instance), said)


def _outlived(worker: Worker, mode: Mode, now: datetime) -> Plan:
    """The worker has ended, its preStop has not: that may finish what it does while the grace period lasts."""
    stopping = worker.status.stopping
    assert stopping is not None, "only a worker that is stopped has a preStop running"
    if mode is not Mode.HURRYING and now < stopping.deadline:
        return _says(worker, worker.status.changed(state=State.STOPPING), requeue_at=stopping.deadline)
    stopping, said = _pre_stop_late(worker, stopping, now)
    return _says(worker, worker.status.changed(stopping=stopping), said)


def _age_s(stopping: Stopping, now: datetime) -> float:
    return (now - stopping.since).total_seconds()


def _emptying(worker: Worker, now: datetime) -> Plan:
    """Its main process has ended; the launcher kills what is left of the tree and says when it is gone."""
    status, stuck = _stuck(worker, worker.status.changed(state=State.STOPPING, ready=False), now)
    return _says(worker, status, stuck)


def _stuck(worker: Worker, status: WorkerStatus, now: datetime) -> tuple[WorkerStatus, tuple[Action, ...]]:
    if not status.stuck:
        return status, ()
    message = "SIGKILL has not ended it (uninterruptible wait, state D? another user's by now?); nothing is started in its place"
    status = status.changed(state=State.STOP_STUCK, message=message)
    if worker.status.state is State.STOP_STUCK:
        return status, ()
    status = decided(status, now, "Stuck", "nothing is started in its place", "SIGKILL has not ended it")
    return status, (Record(event(worker.key, "StopStuck", f"pid {status.pid}: {message}", now, warning=True)),)


def _blocked(worker: Worker, now: datetime) -> Plan:
    message = worker.status.message or "its earlier process can neither be found nor proven dead"
    status = worker.status.changed(state=State.UNKNOWN, ready=False, message=message)
    if worker.status.state is State.UNKNOWN:
        return _says(worker, status)
    status = decided(status, now, "Block", "nothing is started in its place", message)
    return _says(worker, status, (Record(event(worker.key, "Blocked", message, now, warning=True)),))


# What is said.


def _says(
    worker: Worker, status: WorkerStatus, actions: tuple[Action, ...] = (), requeue_at: datetime | None = None
) -> Plan:
    if status is not worker.status and status != worker.status:
        actions = (SetStatus(worker.key, status), *actions)
    return Plan(actions, requeue_at)


def _end_events(worker: Worker, status: WorkerStatus, rests: bool, now: datetime) -> tuple[Action, ...]:
    """The end itself, and what follows when that is not simply the next start."""
    end = status.last_exit
    assert end is not None, "a counted end has an exit"
    fine = end.reason is Reason.STOPPED or (end.reason is Reason.EXITED and end.code == 0)
    said = [event(worker.key, end.reason, words(end), now, warning=not fine)]
    if rests and status.state is State.BACKOFF and status.next_start_at is not None:
        wait = rough_duration((status.next_start_at - now).total_seconds())
        message = f"next start in {wait}, at {format_moment(status.next_start_at)}"
        said.append(event(worker.key, "BackOff", message, now, warning=True))
    if rests and status.state is State.FAILED:
        said.append(event(worker.key, "Failed", status.message, now, warning=True))
    if rests and status.state is State.COMPLETED:
        said.append(event(worker.key, "Completed", status.message, now))
    if end.reason is not Reason.STOPPED and status.failures == CRASH_LOOP_AT:
        message = f"ended {CRASH_LOOP_AT} times in a row, now with {words(end)}"
        said.append(event(worker.key, "CrashLoop", message, now, warning=True))
    return tuple(Record(one) for one in said)


def _template(worker: Worker, pool: Pool | None, world: World) -> Template:
    """Stop and cleanup are live fields: the pool's word of today counts, for whatever revision runs."""
    if pool is not None:
        return pool.spec.template
    return world.template(worker.spec.pool, worker.status.template_hash) or Template()
