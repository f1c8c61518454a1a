"""Whether what is declared has come about, whether anything is in trouble, and whether anything runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from reconciler.resources.pool import Pool
from reconciler.resources.worker import Process, State, Worker

_SETTLED = {State.READY, State.BACKOFF, State.FAILED, State.COMPLETED, State.STOP_STUCK, State.UNKNOWN}
_BAD = {State.RUNNING, State.BACKOFF, State.FAILED, State.STOP_STUCK, State.UNKNOWN}


def settled(worker: Worker, pool: Pool | None, now: datetime) -> bool:
    """Whether it has got as far as it gets for now, well or ill. `pool`: its own.

    What runs and is not ready gets there, or has had the time that its pool gives a rollout to move.
    """
    status = worker.status
    if worker.metadata.deleted_at is not None:
        return False
    if pool is not None and status.process is Process.NONE:
        if pool.metadata.stopped(now) is not None:
            return True
        if status.stands_by:
            return True  # somebody else has its lock, perhaps for long
        if pool.spec.depends_on and status.state is State.PENDING:
            return True  # when all others have settled, what it waits for does not come by itself
    if status.state is State.RUNNING and pool is not None and status.started_at is not None:
        return now - status.started_at >= timedelta(seconds=pool.spec.strategy.progress_deadline_s)
    return status.state in _SETTLED


def planned(pools: Iterable[Pool]) -> bool:
    """Whether each pool has been planned as it is declared now, and none is going."""
    return all(
        pool.status.observed_generation == pool.metadata.generation and not pool.metadata.deleted_at for pool in pools
    )


def in_trouble(workers: Iterable[Worker]) -> list[Worker]:
    """Those that do not do what they are for, once all have settled."""
    return [worker for worker in workers if worker.status.state in _BAD]


def nothing_runs(workers: Iterable[Worker], claimed_tasks: int) -> bool:
    """Whether no process of ours is left."""
    return not claimed_tasks and all(
        worker.status.process is Process.NONE and not worker.status.pre_stops for worker in workers
    )
