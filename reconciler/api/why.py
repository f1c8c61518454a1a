"""Why an object is as it is: the chain of decisions that brought it here, and what happens next and when.

    worker   the decisions in its status: which manifest line, which end, which rule, which wait
    pool     what was declared, scaled, rolled out and stopped, and its workers in trouble
    lock     who has it since when with which token, who waits in which order
    task     its submission, its tries, each with its end and the wait after it, its end

Reads: the store. Decides nothing; what is shown was written down when it was decided.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from reconciler.api import views
from reconciler.policies import fault
from reconciler.resources.event import Event
from reconciler.resources.lock import Lock
from reconciler.resources.meta import Key, Object, Wish
from reconciler.resources.pool import Pool
from reconciler.resources.restart import RestartPolicy
from reconciler.resources.task import TaskState
from reconciler.resources.units import format_moment, rough_duration
from reconciler.resources.words import are
from reconciler.resources.worker import State, Worker
from reconciler.store.base import Store, TaskRecord

Answer = dict[str, Any]


def of_object(obj: Object, store: Store, now: datetime) -> Answer:
    """The answer about a stored object."""
    if isinstance(obj, Worker):
        return _worker(obj, store, now)
    if isinstance(obj, Pool):
        return _pool(obj, store, now)
    if isinstance(obj, Lock):
        return _lock(obj, store)
    return _answer(obj.key, "", "", obj, _happened(store.events(str(obj.key))), {"what": "nothing by itself"})


def of_task(record: TaskRecord, store: Store, now: datetime) -> Answer:
    """The answer about a task."""
    task = json.loads(views.task(record))
    status = task["status"]
    chain = [_step(status["submittedAt"], "Submit", f"to pool/{record.pool}")]
    chain += _earlier(record)
    ended = _ended(status)
    if "startedAt" in status and record.state is not TaskState.RETRYING:
        tries = f"try {status['attempts']} of {record.max_attempts}"
        chain.append(_step(status["startedAt"], "Start", tries, f"a slot was free: {status.get('worker', '')}"))
    if "finishedAt" in status:
        chain.append(_step(status["finishedAt"], status["state"], "its end, which never changes", ended))
    return {
        "object": f"task/{record.id}",
        "state": status["state"],
        "message": ended,
        "declared": None,
        "chain": chain,
        "next": _next_of_task(record, store.get(Pool, record.pool), now),
    }


def _earlier(record: TaskRecord) -> list[Answer]:
    """The tries that were not the last, each with its end and the wait that followed."""
    steps = []
    for number, started_ms, ended_ms, reason, message, again_ms in json.loads(record.tries or "[]"):
        if started_ms:
            steps.append(_step(views.moment(started_ms), "Start", f"try {number} of {record.max_attempts}"))
        wait = f"try {number + 1} of {record.max_attempts} in {rough_duration((again_ms - ended_ms) / 1000)}"
        steps.append(_step(views.moment(ended_ms), "Wait", wait, ", ".join(filter(None, (reason, message)))))
    return steps


def _ended(status: Answer) -> str:
    """How its latest try ended, in words."""
    how = status.get("message") or status.get("signal") or ""
    if not how and "exitCode" in status:
        how = f"exit code {status['exitCode']}"
    return ", ".join(filter(None, (status.get("reason"), how)))


def _next_of_task(record: TaskRecord, pool: Pool | None, now: datetime) -> Answer:
    if record.state.ended:
        return {"what": "nothing: it has ended"}
    timeout_ms = record.started_ms + record.timeout_ms if record.timeout_ms else 0
    limits = [(timeout_ms, "its timeout ends it"), (record.deadline_ms, "its deadline ends it, Expired")]
    if record.state is TaskState.RUNNING:
        for at_ms, what in sorted(limit for limit in limits if limit[0])[:1]:
            return {"what": what, "at": views.moment(at_ms)}
        return {"what": "it runs to its end"}
    held = _held(pool, now)
    if held is not None:
        return held
    if record.due_ms and record.state in (TaskState.DELAYED, TaskState.RETRYING):
        return {"what": "it may start", "at": views.moment(record.due_ms)}
    if record.deadline_ms:
        what = "it waits for a free slot; without one in time its deadline ends it, Expired"
        return {"what": what, "at": views.moment(record.deadline_ms)}
    return {"what": "it waits for a free slot"}


def _held(pool: Pool | None, now: datetime) -> Answer | None:
    """Why no task of the pool is started, if none is, and until when."""
    if pool is None:
        return {"what": "its pool is gone"}
    intent = pool.metadata.standing(now)
    if intent is not None and intent.wish in (Wish.STOPPED, Wish.PAUSED):
        verb = "start" if intent.wish is Wish.STOPPED else "resume"
        why = f": {intent.reason}" if intent.reason else ""
        what = f"{pool.key} is {intent.wish.lower()} by {intent.actor}{why}; `reconciler {verb} {pool.key}` ends that"
        return {"what": what} if intent.until is None else {"what": what, "at": format_moment(intent.until)}
    if pool.metadata.deleted_at is not None:
        return {"what": f"{pool.key} is being deleted"}
    return None if pool.spec.most else {"what": f"{pool.key} has no slots: replicas is 0"}


def _worker(worker: Worker, store: Store, now: datetime) -> Answer:
    pool, status = store.get(Pool, worker.spec.pool), worker.status
    chain = [decision.to_json() for decision in status.decisions]
    answer = _answer(worker.key, status.state, status.message, pool, chain, _next(worker, pool, store, now))
    end = status.last_exit
    found = fault.of_end(end) if end is not None else None
    if end is None or found is None or status.state in (State.READY, State.RUNNING):
        return answer
    whose = str(worker.key) if end.instance == status.instance else f"{worker.key} --previous"
    mend = found.mend.replace("KIND/NAME", whose)
    return {**answer, "fault": {"type": found.type, "what": found.what, "mend": mend}}


def _next(worker: Worker, pool: Pool | None, store: Store, now: datetime) -> Answer:
    status = worker.status
    match status.state:
        case State.BACKOFF if status.next_start_at is not None:
            return {"what": "it is started again", "at": format_moment(status.next_start_at)}
        case State.STOPPING if status.stopping is not None:
            kill = {"what": "SIGKILL to its whole tree", "at": format_moment(status.stopping.deadline)}
            return kill if not status.stopping.killed else {**kill, "what": "SIGKILL again, while anything of it lives"}
        case State.FAILED | State.COMPLETED:
            start = f"; or `reconciler start pool/{worker.spec.pool}`"
            return {"what": f"nothing, until its template or its restart rules change{start}"}
        case State.STOP_STUCK | State.UNKNOWN:
            return {"what": "nothing is started in its place until the slot is known to be empty"}
        case State.PENDING:
            return {"what": status.message or "it is started when it is wanted"}
        case _ if status.failures and status.started_at is not None and pool is not None:
            at = status.started_at + timedelta(seconds=_reset_after_s(pool, store))
            return {"what": f"{are(status.failures, 'failure')} forgotten", "at": format_moment(max(at, now))}
        case _:
            return {"what": "nothing, as long as it runs"}


def _reset_after_s(pool: Pool, store: Store) -> float:
    ref = pool.spec.restart.ref
    named = store.get(RestartPolicy, ref) if ref is not None else None
    return (named.spec if named is not None else pool.spec.restart).backoff.reset_after_s


_ENDED_BY = {"Stopped": "start", "Paused": "resume", "Draining": "resume", "RolloutPaused": "rollout resume"}
"""What ends what an operator has asked of a pool."""


def _pool(pool: Pool, store: Store, now: datetime) -> Answer:
    conditions = {one.type: one for one in pool.status.conditions}
    bad, ready = conditions.get("Degraded"), conditions.get("Ready")
    told = bad if bad is not None and bad.status == "True" else ready
    progress = conditions.get("Progressing")
    if told is ready and told is not None and told.status == "True" and progress is not None:
        told = progress if progress.reason == "RolloutPaused" else told
    state, message = (told.reason, told.message) if told is not None else ("Pending", "")
    troubled: list[Answer] = [
        {"object": str(worker.key), "state": worker.status.state, "next": _next(worker, pool, store, now)}
        for worker in store.owned_by(pool.key, Worker)
        if worker.status.state in (State.BACKOFF, State.FAILED, State.STOP_STUCK, State.UNKNOWN)
    ]
    starts = [one["next"]["at"] for one in troubled if "at" in one["next"]]
    next_: Answer = {"what": "nothing, as long as nothing changes"}
    if starts:
        next_ = {"what": "a worker is started again", "at": min(starts)}
    elif progress is not None and progress.status == "True":
        next_ = {"what": f"{progress.reason}: {progress.message}"}
    elif state in _ENDED_BY:
        next_ = {"what": f"`reconciler {_ENDED_BY[state]} {pool.key}` ends that"}
    answer = _answer(pool.key, state, message, pool, _happened(store.events(str(pool.key))), next_)
    return {**answer, "workers": troubled}


def _lock(lock: Lock, store: Store) -> Answer:
    """Who has had it since when with which token, and who is next in line."""
    status = lock.status
    chain = _happened(store.events(str(lock.key)))
    chain += [
        _step(format_moment(one.since), "Held", f"by {one.name} with token {one.token}") for one in status.holders
    ]
    for place, one in enumerate(status.waiting, 1):
        chain.append(_step(format_moment(one.since), "Wait", f"{one.name} has place {place} in line"))
    state = "held" if status.holders else "free"
    message = status.deadlock or f"the last token was {status.token}, {are(len(status.waiting), 'waiter')} in line"
    if status.waiting:
        what = f"{status.waiting[0].name} gets it when a holder gives it back, ends or loses its lease"
    else:
        what = "the next who asks gets it" + " when it is free" * bool(status.holders)
    return _answer(lock.key, state, message, lock, chain, {"what": what})


def _answer(key: Key, state: str, message: str, declared: Object | None, chain: list[Answer], next_: Answer) -> Answer:
    origin = declared.metadata.source if declared is not None else None
    place = {**origin.to_json(), "generation": declared.metadata.generation} if origin and declared else None
    return {
        "object": str(key),
        "state": state,
        "message": message,
        "declared": place,
        "chain": chain,
        "next": next_,
    }


def _happened(events: Iterable[Event]) -> list[Answer]:
    return [_step(format_moment(one.at), one.reason, _often(one), "", _who(one)) for one in events]


def _often(one: Event) -> str:
    return one.message if one.count == 1 else f"{one.message} ({one.count} times, this was the last)"


def _who(one: Event) -> str:
    cause = one.cause
    place = f" {cause.path}:{cause.line}" if cause.path else ""
    revision = f", revision {cause.revision[:12]}" if cause.revision else ""
    return f"{cause.actor}{place}{revision}"


def _step(at: str, action: str, message: str, because: str = "", rule: str = "") -> Answer:
    return {"at": at, "action": action, "message": message, "because": because, "rule": rule, "declared": ""}
