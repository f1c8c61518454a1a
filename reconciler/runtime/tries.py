"""Writes down what the end of a try means for its task."""

from __future__ import annotations

from datetime import datetime

from reconciler.controllers.tasks import EndedTry, Verdict, after_exit, fault_event, tries_with
from reconciler.resources.pool import Pool, Retry
from reconciler.resources.task import TaskState
from reconciler.runtime.queues import TaskQueue
from reconciler.store.base import Store, TaskRecord


def conclude(
    store: Store,
    queue: TaskQueue,
    record: TaskRecord,
    ended: EndedTry,
    at_ms: int,
    now: datetime,
    cpu_ms: int | None = None,
    final: bool = False,
) -> None:
    """The task ends, or waits for its next try. `final`: what failed has asked for no other try."""
    pool = store.get(Pool, record.pool)
    retry = pool.spec.tasks.retry if pool is not None and pool.spec.tasks is not None else Retry()
    ran_ms = max(0, at_ms - record.started_ms) if record.started_ms else 0
    queue.charge(record, ran_ms if cpu_ms is None else cpu_ms, ran_ms)
    over = record.state.ended
    verdict = after_exit(record, ended, retry, at_ms)
    if final and verdict.state in (TaskState.RETRYING, TaskState.DEAD_LETTERED):
        verdict = Verdict(TaskState.FAILED, 0, verdict.reason, verdict.message)
    said = None if over or verdict.state is TaskState.SUCCEEDED else fault_event(record, ended, verdict, now)
    if said is not None:
        store.add_event(said)
    record.exit_code, record.signal = ended.code, ended.signal
    record.reason, record.message = verdict.reason.value if verdict.reason is not None else None, verdict.message
    if verdict.state is TaskState.RETRYING:
        record.tries = tries_with(record, verdict, at_ms)
        queue.again(record, verdict.due_ms)
    else:
        queue.end(record, verdict.state, at_ms)
