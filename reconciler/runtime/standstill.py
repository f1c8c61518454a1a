"""The running tasks of a pool that stand still while others go before them, and the levels of all that run.

    weigh -> the level that the CPU time since the last boost leads to
    begin, end -> written down before the signal goes out, so that whoever comes next lets them go on

Contract: a task that is in here has been sent SIGSTOP, or will be; one that has left has been sent SIGCONT, or has ended.
"""

from __future__ import annotations

import json
from collections.abc import Container

from reconciler.policies.ordering.feedback import MultiLevelFeedback
from reconciler.store.base import TaskRecord, Tasks

SUSPENDED = "suspended"
"""The name under which they are remembered."""

MESSAGE = "it stands still until a slot is free for its level"


class Standstill:
    """Of one pool."""

    def __init__(self, pool: str, tasks: Tasks) -> None:
        self._pool = pool
        self._tasks = tasks
        self._claims: dict[int, int] = dict(json.loads(tasks.remembered(pool).get(SUSPENDED, "[]")))
        self.unsaid = set(self._claims)
        """Written down by an earlier controller, which may have died before it sent the signal."""
        self.lane = 0
        """For so many of them the launcher has been given slots."""
        self._levels: dict[int, int] = {}
        self._used_ms: dict[int, int] = {}
        self._boosted_at_ms: dict[int, int] = {}
        self._boosts = 0

    def __len__(self) -> int:
        return len(self._claims)

    def __contains__(self, task_id: int) -> bool:
        return task_id in self._claims

    def begin(self, record: TaskRecord) -> None:
        """It stands still from now on."""
        record.message = MESSAGE
        self.unsaid.discard(record.id)
        if self._claims.get(record.id) != record.claim:
            self._claims[record.id] = record.claim
            self._save()

    def end(self, record: TaskRecord) -> None:
        """It goes on, or has ended."""
        if self._claims.pop(record.id, None) is not None:
            if record.message == MESSAGE:
                record.message = ""
            self.unsaid.discard(record.id)
            self._save()

    def level(self, task_id: int) -> int:
        """Where its CPU time has led it."""
        return self._levels.get(task_id, 0)

    def weigh(self, task_id: int, used_ms: int, order: MultiLevelFeedback) -> int:
        """A running task has used that much in all; returns its level."""
        if order.boosts != self._boosts:
            self._boosts = order.boosts
            self._boosted_at_ms = dict(self._used_ms)
            self._levels.clear()
        self._used_ms[task_id] = used_ms
        level = self._levels[task_id] = order.level_of(used_ms - self._boosted_at_ms.get(task_id, 0))
        return level

    def forget(self, but: Container[int]) -> None:
        """What has ended need not be known any more."""
        for known in (self._levels, self._used_ms, self._boosted_at_ms):
            for task_id in [task_id for task_id in known if task_id not in but]:
                del known[task_id]

    def _save(self) -> None:
        self._tasks.remember(self._pool, {SUSPENDED: json.dumps(list(self._claims.items())) if self._claims else None})
