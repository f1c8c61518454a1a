"""Hands a pool's waiting tasks to its slots, ends those that have to end, and says what an end means.

    ready ids --Dispatch--> claimed: so many as slots, and some ahead, wait or run in the launcher
    long over --Retire----> dropped, some at a time
    unwanted  --Recall----> back from the launcher: something more urgent came, or it is too late for its deadline
    too late  --Expire----> Expired
    demoted   --Suspend---> stands still until a slot is free for its level (suspension.py)
    overdue   --EndTask---> the stop signal, after the grace the kill
    ended     --after_exit> Succeeded | Retrying | Failed | DeadLettered | Cancelled | Unknown

Reads:   the Pool and a view of its queue.
Writes:  claims and ends.
Wakes:   on a submission or an end, when a waiting task becomes due, when a running one becomes overdue.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from reconciler.controllers import suspension
from reconciler.controllers.base import (
    Action,
    Dispatch,
    EndTask,
    Expire,
    Mode,
    Plan,
    Queue,
    Recall,
    Record,
    Retire,
    Weigh,
    World,
)
from reconciler.policies import backoff, fault, restart
from reconciler.resources.event import Event, event
from reconciler.resources.meta import Key, Wish
from reconciler.resources.pool import Pool, Retry, RetryAction, Stop
from reconciler.resources.task import TaskState
from reconciler.resources.units import from_ms, to_ms
from reconciler.resources.worker import Reason
from reconciler.store.base import TaskRecord

AHEAD = 8
"""At least so many claimed tasks wait in the launcher beyond the slots, so that no slot idles during a commit."""

AHEAD_MS = 40
"""And as many as have ended within this time: a turn, its commit and what may hold it up. A pool of short tasks needs
many, and one of long tasks keeps the order of those that wait open."""


MOST_ENDED = 100_000
"""So many ended tasks of a pool are kept at most."""

WEIGH_EVERY_MS = 500
"""So often the CPU time of running tasks is looked at, where a policy demotes them for it."""

EXPIRE_AT_ONCE = 1000
"""More tasks that are too late wait for the next turn."""


def plan(key: Key, world: World, now: datetime) -> Plan:
    """What the queue of the pool `key.name` hands on and ends now."""
    pool = world.get(Pool, key.name)
    queue = world.queue(key.name)
    now_ms = to_ms(now)
    actions: list[Action] = ends(key.name, pool, queue, now_ms)
    wake_ms = [queue.next_deadline_ms, queue.next_late_ms]
    if expired := queue.expired(now_ms, EXPIRE_AT_ONCE):
        actions += expire(key.name, expired, now)
        wake_ms.append(now_ms if len(expired) == EXPIRE_AT_ONCE else None)
    if unwanted := queue.unwanted(now_ms):
        actions.append(Recall(key.name, tuple(unwanted)))

    room = _room(pool, queue, now) + len(unwanted) if world.mode is Mode.RUNNING else 0
    if room > 0:
        ids = tuple(queue.ready(room + len(expired), now_ms))
        if expired:
            ids = tuple(task_id for task_id in ids if task_id not in set(expired))[:room]
        if ids:
            actions.append(Dispatch(key.name, ids))
        if len(ids) < room:
            wake_ms.append(queue.next_due_ms)  # with no room left an end wakes it, not the time
    if pool is not None:
        actions += suspension.plan(pool, queue, world, now, now_ms)
    if queue.next_weigh_ms is not None:
        if queue.next_weigh_ms <= now_ms:
            actions.append(Weigh(key.name))
        wake_ms.append(max(queue.next_weigh_ms, now_ms + WEIGH_EVERY_MS))
    actions += retired(pool, queue, now_ms)
    moments = [ms for ms in wake_ms if ms is not None]
    return Plan(tuple(actions), from_ms(min(moments)) if moments else None)


def retired(pool: Pool | None, queue: Queue, now_ms: int) -> list[Action]:
    """Lets those go that ended long ago, when it is time to look."""
    if pool is None or pool.spec.tasks is None or queue.next_retire_ms > now_ms:
        return []
    ttl_ms = round(pool.spec.tasks.ttl_after_finished_s * 1000)
    return [Retire(pool.name, now_ms - ttl_ms, MOST_ENDED)]


def expire(name: str, ids: Sequence[int], now: datetime) -> list[Action]:
    """Ends what waits and is too late."""
    message = "a task did not begin in time for its deadline: Expired"
    said = event(Key("Pool", name), Reason.START_DEADLINE_EXCEEDED, message, now, warning=True)
    return [Expire(name, tuple(ids)), Record(said)]


def ends(name: str, pool: Pool | None, queue: Queue, now_ms: int) -> list[Action]:
    """Ends what runs and has to."""
    overdue = queue.overdue(now_ms)
    if not overdue:
        return []
    stop = pool.spec.template.stop if pool is not None else Stop()
    return [
        EndTask(name, task.id, task.instance, "SIGKILL" if task.kill else stop.signal, tree=task.kill)
        for task in overdue
    ]


def _room(pool: Pool | None, queue: Queue, now: datetime) -> int:
    if pool is None or pool.spec.tasks is None or pool.metadata.deleted_at is not None or not pool.replicas:
        return 0
    standing = pool.metadata.standing(now)
    if standing is not None and standing.wish in (Wish.STOPPED, Wish.PAUSED):
        return 0
    return (
        pool.replicas
        + max(AHEAD, queue.ended_since(to_ms(now) - AHEAD_MS))
        - queue.claimed
        + queue.recalling
        + queue.still
    )


class EndedTry(NamedTuple):
    """How one try of a task ended."""

    code: int | None
    signal: str | None
    reason: Reason
    message: str = ""


class Verdict(NamedTuple):
    """What becomes of the task; `due_ms` counts for Retrying only, where it is the moment of the next try."""

    state: TaskState
    due_ms: int
    reason: Reason | None
    message: str


def after_exit(record: TaskRecord, exit: EndedTry, retry: Retry, now_ms: int) -> Verdict:
    """What this end of a try means; `record.attempts` or `record.claim` has the try in it. A state that is an end stays."""
    if record.state.ended:
        return Verdict(record.state, 0, Reason(record.reason) if record.reason else None, record.message)
    if record.cancelling:
        return Verdict(TaskState.CANCELLED, 0, exit.reason, exit.message or "cancelled while it ran")
    if exit.reason is Reason.EXITED and exit.code == 0:
        return Verdict(TaskState.SUCCEEDED, 0, exit.reason, exit.message)

    message = exit.message or _words(exit)
    if exit.reason is Reason.DEADLINE_EXCEEDED:
        return Verdict(TaskState.EXPIRED, 0, exit.reason, message)
    if record.on_unknown_fail and exit.reason in (Reason.EXIT_UNKNOWN, Reason.HOST_REBOOTED):
        return Verdict(TaskState.UNKNOWN, 0, exit.reason, message)
    for place, rule in enumerate(retry.rules):
        if restart.matches(rule, exit):
            if rule.action is RetryAction.FAIL:
                why = f"{message}; retry.rules[{place}] ({restart.in_words(rule, rule.action)})"
                return Verdict(TaskState.FAILED, 0, exit.reason, why)
            break
    tries = max(record.attempts, record.claim)
    if tries >= record.max_attempts:
        end = TaskState.FAILED if record.max_attempts == 1 else TaskState.DEAD_LETTERED
        return Verdict(end, 0, exit.reason, message)
    wait_s = backoff.delay_s(tries + 1, retry.backoff, f"{record.id}.{tries}")
    return Verdict(TaskState.RETRYING, now_ms + round(wait_s * 1000), exit.reason, message)


TRIES_KEPT = 10


def tries_with(record: TaskRecord, verdict: Verdict, ended_ms: int) -> str:
    """The tries of a task that is to be tried again, as JSON, each with number, start, end, reason, message and when the
    next may be; the newest of them."""
    before = json.loads(record.tries) if record.tries else []
    words = verdict.message[:LONGEST_WORDS]
    ended = [record.attempts, record.started_ms, ended_ms, verdict.reason, words, verdict.due_ms]
    return json.dumps([*before, ended][-TRIES_KEPT:], separators=(",", ":"))


LONGEST_WORDS = 200


def fault_event(record: TaskRecord, exit: EndedTry, verdict: Verdict, now: datetime) -> Event | None:
    """The event for a try that went wrong, about its pool: alike ones are counted, and the last of them is named."""
    found = fault.of(exit.reason, exit.code)
    if found is None or verdict.state in (TaskState.SUCCEEDED, TaskState.CANCELLED):
        return None
    how = "its start failed" if exit.reason is Reason.START_FAILED else _words(exit)
    message = (
        f"task/{record.id}: {how}; {'it is tried again' if verdict.state is TaskState.RETRYING else verdict.state}"
    )
    return event(Key("Pool", record.pool), exit.reason, message, now, warning=True)


def _words(exit: EndedTry) -> str:
    how = exit.signal if exit.signal is not None else f"exit code {exit.code}" if exit.code is not None else ""
    if exit.reason in (Reason.EXITED, Reason.SIGNALLED):
        return how
    words = {
        Reason.TIMED_OUT: "it ran longer than its timeout",
        Reason.DEADLINE_EXCEEDED: "its deadline passed while it ran",
        Reason.EXIT_UNKNOWN: "nobody saw how it ended",
        Reason.HOST_REBOOTED: "the host was rebooted while it ran",
    }
    said = words.get(exit.reason, str(exit.reason))
    return f"{said} ({how})" if how else said
