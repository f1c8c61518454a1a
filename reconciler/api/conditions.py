"""What `wait` waits for: whether a condition holds now, or never will. Pure.

ready | finished | deleted | condition=X   of   pool/web, worker/web-0, task/17
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from reconciler.errors import Invalid
from reconciler.resources.lock import Lock
from reconciler.resources.meta import Object, Status
from reconciler.resources.pool import Pool
from reconciler.resources.restart import RestartPolicy
from reconciler.resources.scheduling import SchedulingPolicy
from reconciler.resources.task import TaskState
from reconciler.resources.worker import State, Worker
from reconciler.store.base import TaskRecord

LIVE_STATES = (TaskState.PENDING, TaskState.DELAYED, TaskState.RUNNING, TaskState.RETRYING)
_WORKER_ENDS = (State.COMPLETED, State.FAILED)


class Answer(StrEnum):
    """How a condition stands."""

    YES = "yes"
    NOT_YET = "not yet"
    NEVER = "never"
    """It has ended in another way: waiting on is of no use."""


class _Counting(Protocol):
    def counts(self, pool: str) -> dict[TaskState, int]: ...


def of_object(obj: Object, wanted: str) -> Answer:
    """How a stored object stands to `wanted`. Raises Invalid for a word that cannot be waited for."""
    check(wanted)
    if wanted == "deleted":
        return Answer.NOT_YET
    if isinstance(obj, Pool):
        return _pool(obj, wanted)
    if isinstance(obj, Worker):
        return _worker(obj, wanted)
    if isinstance(obj, RestartPolicy | SchedulingPolicy | Lock) and wanted == "ready":
        return Answer.YES if obj.status.observed_generation == obj.metadata.generation else Answer.NOT_YET
    raise Invalid(f"{obj.key} has no condition to wait for", "wait for a pool, a worker or a task")


def of_task(record: TaskRecord, wanted: str) -> Answer:
    """How a task stands to `wanted`; any end ends the wait."""
    check(wanted)
    if wanted == "finished":
        return Answer.YES if record.state.ended else Answer.NOT_YET
    if wanted == "ready":
        return Answer.YES if record.state is TaskState.RUNNING else _unless(record.state.ended)
    if wanted == "deleted":
        return _unless(record.state.ended)
    return Answer.YES if record.state.value == wanted.partition("=")[2] else _unless(record.state.ended)


def live_tasks(tasks: _Counting, pools: list[str]) -> int:
    """How many tasks of these pools have not ended."""
    return sum(tasks.counts(pool).get(state, 0) for pool in pools for state in LIVE_STATES)


def check(wanted: str) -> None:
    """Raises Invalid for a word that cannot be waited for."""
    name = wanted.removeprefix("condition=")
    if wanted not in ("ready", "finished", "deleted") and (name == wanted or not name.isalnum()):
        raise Invalid(f"nobody can wait for {wanted!r}", "ready, deleted, finished or condition=NAME")


def _pool(pool: Pool, wanted: str) -> Answer:
    if wanted == "finished":
        raise Invalid(f"{pool.key} never finishes by itself", "wait --all --pool NAME waits for its tasks")
    name = "Ready" if wanted == "ready" else wanted.partition("=")[2]
    if pool.status.observed_generation < pool.metadata.generation:
        return Answer.NOT_YET
    rollout = pool.status.rollout
    if wanted == "ready" and rollout is not None:  # ready as it was declared, not as it was before
        return _unless(bool(rollout.failed))
    return Answer.YES if any(c.type == name and c.status is Status.TRUE for c in pool.status.conditions) else _unless()


def _worker(worker: Worker, wanted: str) -> Answer:
    ended = worker.status.state in _WORKER_ENDS
    if wanted == "finished":
        return Answer.YES if ended else Answer.NOT_YET
    if wanted == "ready":
        return Answer.YES if worker.status.ready else _unless(ended)
    return Answer.YES if worker.status.state.value == wanted.partition("=")[2] else _unless(ended)


def _unless(ended: bool = False) -> Answer:
    return Answer.NEVER if ended else Answer.NOT_YET
