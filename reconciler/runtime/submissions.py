"""The door through which tasks come: new ones, and ended ones that are to be tried once more.

POST -> admitted by the pool -> records (controllers/intake) -> the queue; durable with the next commit
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from reconciler.clock import Clock
from reconciler.controllers import intake
from reconciler.controllers.base import Mode
from reconciler.errors import NotFound
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool, Tasks
from reconciler.resources.scheduling import Admission
from reconciler.resources.task import Plain, Submission
from reconciler.resources.units import to_ms
from reconciler.runtime.loop import Loop
from reconciler.store.base import Store, TaskRecord


class Submissions:
    """Stages tasks, all of a request or none; whoever asked is answered after the commit."""

    def __init__(self, store: Store, loop: Loop, clock: Clock) -> None:
        self._store = store
        self._loop = loop
        self._clock = clock

    def submit(self, pool: str, submissions: Sequence[Submission | Plain]) -> list[TaskRecord]:
        """The records of these submissions, some of which may have been there."""
        queue, found = self._loop.queues.of(pool), self._store.get(Pool, pool)
        defaults = self._admit(pool, found, len(submissions))
        tasks = self._store.tasks
        now = self._clock.now()
        now_ms, slots = to_ms(now), found.replicas if found is not None else 0
        admission = queue.policy.admission
        too_late = partial(queue.too_late, slots=slots, now_ms=now_ms)
        refusing = too_late if admission is Admission.REJECT else None
        taken = intake.take(pool, defaults, submissions, tasks.by_key, tasks.next_id, now_ms, refusing)
        if admission is Admission.WARN and any(r.deadline_ms and too_late(r.deadline_ms) for r in taken.new):
            message = "a task is taken whose deadline the queue before it will hardly let it meet"
            self._store.add_event(event(Key("Pool", pool), "DeadlineDoubtful", message, now, warning=True))
        self._loop.submit(pool, taken.new)
        return taken.answers

    def retry(self, task_id: int) -> TaskRecord:
        """A new task like an ended one; the same again for one that has been retried already."""
        tasks = self._store.tasks
        found = self._loop.queues.find(task_id)
        old = found[1] if found is not None else tasks.get(task_id)
        if old is None:
            raise NotFound(f"there is no task/{task_id}", "it may have been dropped some days after its end")
        self._admit(old.pool, self._store.get(Pool, old.pool), 1)
        known = tasks.by_key(old.pool, intake.retry_key(task_id))
        if known is not None:
            return known
        new = intake.again(old, tasks.next_id, to_ms(self._clock.now()))
        self._loop.submit(old.pool, [new])
        return new

    def _admit(self, pool: str, found: Pool | None, count: int) -> Tasks:
        loop = self._loop
        stopping = loop.world.mode is not Mode.RUNNING
        return intake.admit(
            pool, found, count, loop.queues.of(pool).waiting, stopping, loop.degraded, self._clock.now()
        )
