"""What follows the end of a worker's process: counted once, then a start, a wait, or rest.

    an end -> counted: failures, the wait             once for each start
           -> rules -> Fail, Complete                 it rests, and says by which rule
                    -> Restart: wait over?  budgets?  it waits, and says until when
                    -> start

Reads:   the Worker, its Pool, the RestartPolicy that the pool names, the budgets.
Writes:  nothing: it is the part of the worker's plan that concerns restarts.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler.controllers.base import Action, Charge, World
from reconciler.policies import backoff, fault, restart
from reconciler.resources.meta import Wish
from reconciler.resources.pool import Pool
from reconciler.resources.restart import RestartPolicy, RestartPolicySpec
from reconciler.resources.units import format_duration, format_moment, rough_duration
from reconciler.resources.words import many
from reconciler.resources.worker import Decision, LastExit, Reason, State, Worker, WorkerStatus

DECISIONS_KEPT = 20
"""Of one worker, for `why`: some ten restarts."""

LONGEST_GRANT_S = 300.0
"""A budget makes nobody wait longer after the clock was set back; without that the wait is the budget's."""


class Rules(NamedTuple):
    """The restart rules of a pool, and their name."""

    spec: RestartPolicySpec
    name: str

    def said(self, rule: str) -> str:
        """Which of the rules decided."""
        return f"{self.name}: {rule}"


def rules_of(pool: Pool | None, world: World) -> Rules:
    """What the pool has written, or the RestartPolicy that it names; the defaults where that is gone."""
    if pool is None:
        return Rules(RestartPolicySpec(), "restart")
    ref = pool.spec.restart.ref
    if ref is None:
        return Rules(pool.spec.restart, f"restart of {pool.key}")
    named = world.get(RestartPolicy, ref)
    if named is None:
        return Rules(RestartPolicySpec(), f"restartpolicy/{ref} is gone, so the defaults")
    return Rules(named.spec, str(named.key))


class Outcome(NamedTuple):
    """The status to start with or to rest in, why it starts (empty: it rests), what said so, and the charge for it."""

    status: WorkerStatus
    start: str
    rule: str = ""
    actions: tuple[Action, ...] = ()


def counted(status: WorkerStatus, rules: Rules, now: datetime) -> WorkerStatus:
    """The status with the end of its latest start in it, if that end is news."""
    if not status.instance or status.counted == status.instance:
        return status
    end = status.last_exit
    if end is None or end.instance != status.instance:
        end = LastExit(reason=Reason.EXIT_UNKNOWN, message="nothing of it was found", at=now, instance=status.instance)
    if status.stopping is not None and status.stopping.fault:
        end = end.changed(reason=Reason.PROTOCOL_ERROR, message=status.stopping.reason)
    elif status.stopping is not None and end.reason is not Reason.HOST_REBOOTED:
        dead = status.probed.dead if status.probed is not None else ""
        end = end.changed(reason=Reason.PROBE_FAILED, message=dead) if dead else end.changed(reason=Reason.STOPPED)
    found = fault.of_end(end)
    end = end.changed(type=found.type if found is not None else None)
    at, limits = min(end.at, now), rules.spec.backoff
    run_s = (at - status.started_at).total_seconds() if status.started_at is not None else 0.0
    well_since = status.started_at if status.probed is None else status.probed.ready_since
    healthy = well_since is not None and at - well_since >= timedelta(seconds=limits.reset_after_s)
    failures, wait_s = 0 if healthy else status.failures, 0.0
    verdict = restart.after(rules.spec, end)
    if verdict.counts:
        failures += 1
        # A start that failed will fail the same way at once: no free try.
        attempt = failures + 1 if end.reason is Reason.START_FAILED else failures
        wait_s = backoff.delay_s(attempt, limits, status.instance)
    elif verdict.next is restart.Next.RESTART and end.reason not in (Reason.STOPPED, Reason.HOST_REBOOTED):
        wait_s = max(0.0, limits.initial_s - run_s)  # an end that a rule ignores: uncounted, and yet no busy loop
    return status.changed(
        counted=status.instance,
        last_exit=end,
        failures=failures,
        next_start_at=at + timedelta(seconds=wait_s) if wait_s else None,
        stopping=None,
        stuck=False,
        pid=None,
        ready=False,
        message="",
    )


def start_or_rest(
    worker: Worker, pool: Pool, status: WorkerStatus, rules: Rules, world: World, now: datetime
) -> Outcome:
    """What a worker that is wanted and of which nothing lives does now."""
    end = status.last_exit
    if status.template_hash != worker.spec.template_hash:
        reason = f"template {worker.spec.template_hash}" if status.starts else "missing slot"
        return Outcome(status.changed(failures=0, recent_restarts=(), next_start_at=None), reason)
    if end is None or end.reason is Reason.STOPPED:
        return Outcome(status, "stopped before")
    intent = pool.metadata.intent
    if intent is not None and intent.wish is Wish.STARTED and end.at <= intent.at:
        return Outcome(status.changed(failures=0, recent_restarts=(), next_start_at=None), f"started by {intent.actor}")
    verdict = restart.after(rules.spec, end)
    rule = rules.said(verdict.rule)
    match verdict.next:
        case restart.Next.COMPLETE if end.reason is Reason.EXITED and end.code == 0:
            return Outcome(_rests(status, State.COMPLETED, "it has done its work"), "", rule)
        case restart.Next.COMPLETE:
            return Outcome(_rests(status, State.COMPLETED, f"{words(end)}; {verdict.rule}"), "", rule)
        case restart.Next.FAIL:
            by = f"restart {verdict.rule}" if verdict.rule.startswith("policy") else verdict.rule
            return Outcome(_rests(status, State.FAILED, f"{words(end)}; {by}"), "", rule)
        case restart.Next.RESTART:
            return _restart_or_rest(status, pool, end, rules, verdict, world, now)


def _rests(status: WorkerStatus, state: State, message: str) -> WorkerStatus:
    return status.changed(state=state, next_start_at=None, message=message)


def _restart_or_rest(
    status: WorkerStatus,
    pool: Pool,
    end: LastExit,
    rules: Rules,
    verdict: restart.Verdict,
    world: World,
    now: datetime,
) -> Outcome:
    spec, budget = rules.spec, pool.spec.restart_budget
    limit = spec.max_restarts
    keep_s = max(spec.window_s, budget.window_s if budget is not None else 0.0)
    # Once Failed, the restarts stay as they were counted: the window moving on is no reason to try again.
    failed = status.state is State.FAILED
    recent = status.recent_restarts if failed else restart.within(status.recent_restarts, keep_s, now)
    if limit is not None and verdict.counts:
        lately = recent if failed else restart.within(recent, spec.window_s, now)
        if len(lately) >= limit:
            message = f"{many(limit, 'restart')} within {format_duration(spec.window_s)}; the last end: {words(end)}"
            status = _rests(status, State.FAILED, message).changed(recent_restarts=recent)
            return Outcome(status, "", rules.said(f"maxRestarts {limit}"))
    granted = status.admitted == status.instance
    # A clock set back, or a shorter max, must not leave it waiting longer than the longest wait.
    budget_s = max(LONGEST_GRANT_S, budget.window_s if budget is not None else 0.0) if granted else 0.0
    latest = now + timedelta(seconds=max(spec.backoff.max_s, budget_s))
    due = min(status.next_start_at, latest) if status.next_start_at is not None else now
    status = status.changed(recent_restarts=recent)
    if due > now:
        message = status.message if granted and status.message else words(end)
        rule = rules.said(f"backoff after {many(status.failures, 'failure')}" if verdict.counts else verdict.rule)
        return Outcome(status.changed(state=State.BACKOFF, next_start_at=due, message=message), "", rule)

    charge: tuple[Action, ...] = ()
    if not granted and end.reason is not Reason.HOST_REBOOTED:
        at, why = world.grant(pool, status.instance, now)
        charge = (Charge(pool.name, at),)
        if why:
            status = status.changed(admitted=status.instance, next_start_at=at, message=f"{words(end)}; {why}")
            return Outcome(status.changed(state=State.BACKOFF), "", why, charge)
    keep = max(limit or 0, budget.max_restarts if budget is not None else 0)
    if keep and verdict.counts:
        status = status.changed(recent_restarts=(*recent, now)[-keep:])
    status = status.changed(restarts=status.restarts + 1)
    return Outcome(status, f"restart after {brief(end)}", rules.said(verdict.rule), charge)


def decided(
    status: WorkerStatus,
    now: datetime,
    action: str,
    message: str,
    because: str,
    rule: str = "",
    pool: Pool | None = None,
) -> WorkerStatus:
    """The status with one more decision in its chain."""
    one = Decision(at=now, action=action, message=message, because=because, rule=rule, declared=_declared(pool))
    return status.changed(decisions=(*status.decisions, one)[-DECISIONS_KEPT:])


def rest_decided(before: WorkerStatus, status: WorkerStatus, rule: str, now: datetime) -> WorkerStatus:
    """The status with the decision to rest, if that is news."""
    fresh = status.counted != before.counted or status.admitted != before.admitted
    if not fresh and status.state is before.state and status.message == before.message:
        return status
    because = words(status.last_exit) if status.last_exit is not None else ""
    match status.state:
        case State.BACKOFF if status.next_start_at is not None:
            wait = rough_duration((status.next_start_at - now).total_seconds())
            message = f"next start in {wait}, at {format_moment(status.next_start_at)}"
            return decided(status, now, "Wait", message, because, rule)
        case State.PENDING if status.message and status.message != before.message:
            return decided(status, now, "Wait", "it is not started yet", status.message, rule)
        case State.FAILED:
            return decided(status, now, "Fail", f"not started again: {status.message}", because, rule)
        case State.COMPLETED:
            return decided(status, now, "Complete", f"not started again: {status.message}", because, rule)
    return status


def _declared(pool: Pool | None) -> str:
    """`web.yaml:3, revision 1a2b3c, generation 4`."""
    if pool is None:
        return ""
    origin, generation = pool.metadata.source, f"generation {pool.metadata.generation}"
    if origin is None:
        return generation
    revision = f", revision {origin.revision[:12]}" if origin.revision else ""
    return f"{origin.path}:{origin.line}{revision}, {generation}"


def words(end: LastExit) -> str:
    """How it ended, for people: `exit code 3`, `SIGSEGV`, `start failed: exec: ...`."""
    match end.reason:
        case Reason.START_FAILED:
            return f"start failed: {end.message}"
        case Reason.PROBE_FAILED | Reason.PROTOCOL_ERROR:
            return end.message
        case Reason.HOST_REBOOTED:
            return "a reboot of the host"
        case Reason.EXIT_UNKNOWN:
            return f"an end that nobody saw{f' ({end.message})' if end.message else ''}"
    if end.signal is not None:
        return end.signal if end.reason in (Reason.SIGNALLED, Reason.STOPPED) else f"{end.signal} ({end.reason})"
    return f"exit code {end.code}" + (f" ({end.reason})" if end.reason is Reason.OOM_KILLED else "")


def brief(end: LastExit) -> str:
    """As `words`, short enough for one line with something else."""
    return "a failed start" if end.reason is Reason.START_FAILED else words(end)
