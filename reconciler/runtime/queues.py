"""The tasks of each pool in memory: who is next, who is due, who runs too long.

    submitted -> waiting -> claimed (durable; the launcher has it) -> running -> ended
                    ^------------ back (never began) / due again (retry)

A plan sees `ready`, `claimed`, `overdue`; only the executor and the observer change anything. Order of submission is the
order of ids: a task that comes back takes its old place.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from reconciler.controllers.base import Overdue
from reconciler.policies.ordering.fifo import Fifo
from reconciler.resources.task import TaskState
from reconciler.store.base import TaskRecord, Tasks

ENDS_REMEMBERED = 64


class TaskQueue:
    """The live tasks of one pool."""

    def __init__(self, pool: str, tasks: Tasks, store_id: str) -> None:
        self.pool = pool
        self.live: dict[int, TaskRecord] = {}
        self.grace_ms = 30_000
        """Between the stop signal and the kill of a task that has to end."""
        self.overran: set[int] = set()
        """Running tasks that were told to end because of their timeout."""
        self._tasks = tasks
        self._store_id = store_id
        self._order = Fifo()
        self._delayed: list[tuple[int, int]] = []
        self._ends: list[tuple[int, int, int, bool]] = []  # at, id, attempt, kill
        self._claimed = 0
        self._waiting = 0
        self._running: dict[int, TaskRecord] = {}
        self._ends_seen: deque[int] = deque(maxlen=ENDS_REMEMBERED)

    def load(self, record: TaskRecord) -> None:
        """A task from an earlier life of the controller; claims are settled by what the launcher says."""
        self.live[record.id] = record
        if record.claim:
            self._claimed += 1
        else:
            self._waiting += 1
            self._line_up(record)

    def retry_by(self, latest_ms: int) -> None:
        """No further try waits beyond that moment: the clock has been set back since it was decided."""
        for record in self.live.values():
            if record.state is TaskState.RETRYING and record.due_ms > latest_ms:
                record.due_ms = latest_ms
                heapq.heappush(self._delayed, (latest_ms, record.id))

    def submit(self, record: TaskRecord) -> None:
        """A new task."""
        self.live[record.id] = record
        self._waiting += 1
        self._tasks.stage(record)
        self._line_up(record)

    def claim(self, task_id: int) -> TaskRecord:
        """The task is the launcher's from here on; durable with the next commit."""
        record = self.live[task_id]
        record.claim = record.attempts + 1
        record.state = TaskState.PENDING
        record.due_ms = 0
        self._claimed += 1
        self._waiting -= 1
        self._tasks.stage(record)
        self._order.discard(task_id)
        return record

    def give_back(self, record: TaskRecord) -> None:
        """The claim never began: the task takes its old place, the try uncounted."""
        record.claim = 0
        self._claimed -= 1
        self._waiting += 1
        self._order.add(record.id)
        if record.cancelling:
            self.end(record, TaskState.CANCELLED, 0)
        else:
            self._tasks.stage(record)

    def began(self, record: TaskRecord, pid: int, slot: int, started_ms: int) -> None:
        """The launcher has started it. Memory only: after a crash the launcher says so again."""
        self._running[record.id] = record
        record.state = TaskState.RUNNING
        record.attempts = record.claim
        record.pid, record.slot, record.started_ms = pid, slot, started_ms
        if record.cancelling:
            heapq.heappush(self._ends, (0, record.id, record.claim, False))
        elif record.timeout_ms:
            heapq.heappush(self._ends, (started_ms + record.timeout_ms, record.id, record.claim, False))

    def saw_end(self, now_ms: int) -> None:
        """A try has ended."""
        self._ends_seen.append(now_ms)

    def again(self, record: TaskRecord, due_ms: int) -> None:
        """The try failed and there will be another, not before that moment."""
        self._leave(record)
        record.state, record.due_ms = TaskState.RETRYING, due_ms
        self._waiting += 1
        self._tasks.stage(record)
        self._line_up(record)

    def end(self, record: TaskRecord, state: TaskState, finished_ms: int) -> None:
        """It is over: this state never changes again."""
        if record.claim:
            self._leave(record)
        else:
            self._stop_waiting(record)
        record.state, record.finished_ms, record.claim = state, finished_ms, 0
        del self.live[record.id]
        self._tasks.stage(record)

    def forget(self, record: TaskRecord) -> None:
        """Takes a submission back that could not be made durable."""
        if self.live.pop(record.id, None) is None:
            return
        if record.claim:
            self._leave(record)
        else:
            self._stop_waiting(record)

    def cancel(self, record: TaskRecord, now_ms: int) -> bool:
        """Ends what waits here at once (True); what the launcher has is marked and has to be recalled or ended (False)."""
        if record.claim == 0:
            record.reason = None
            self.end(record, TaskState.CANCELLED, now_ms)
            return True
        record.cancelling = True
        self._tasks.stage(record)
        if record.state is TaskState.RUNNING:
            heapq.heappush(self._ends, (0, record.id, record.claim, False))
        return False

    def end_all(self) -> list[int]:
        """The daemon stops: what runs has to end; returns what the launcher may not have begun yet."""
        for record in self._running.values():
            heapq.heappush(self._ends, (0, record.id, record.claim, False))
        return [record.id for record in self.live.values() if record.claim and record.id not in self._running]

    def instance(self, record: TaskRecord) -> str:
        """The name of the try that has been claimed; unique over all state directories of the host."""
        return f"{self._store_id}.{record.id}.{record.claim}"

    def step_done(self, overdue: Overdue, now_ms: int) -> None:
        """The stop signal has been sent (then the kill follows after the grace), or the kill."""
        record = self.live.get(overdue.id)
        self._ends = [end for end in self._ends if end[1] != overdue.id]
        heapq.heapify(self._ends)
        if record is not None and record.timeout_ms and now_ms - record.started_ms >= record.timeout_ms:
            self.overran.add(record.id)
        if record is not None and not overdue.kill:
            heapq.heappush(self._ends, (now_ms + self.grace_ms, record.id, record.claim, True))

    # what a plan sees

    def ready(self, limit: int, now_ms: int) -> Sequence[int]:
        """Ids of the first tasks that may go now, in order of submission."""
        while self._delayed and self._delayed[0][0] <= now_ms:
            due_ms, task_id = heapq.heappop(self._delayed)
            record = self.live.get(task_id)
            if record is not None and not record.claim and record.due_ms == due_ms:
                record.state, record.due_ms = TaskState.PENDING, 0
                self._order.add(task_id)
        return self._order.peek(max(0, limit))

    @property
    def waiting(self) -> int:
        """Tasks not claimed, ready or not."""
        return self._waiting

    @property
    def claimed(self) -> int:
        """Tasks the launcher has."""
        return self._claimed

    def ended_since(self, ms: int) -> int:
        """How many tries have been seen to end since that moment; the last 64 are remembered."""
        count = 0
        for at_ms in reversed(self._ends_seen):
            if at_ms < ms:
                break
            count += 1
        return count

    @property
    def next_due_ms(self) -> int | None:
        """When the first delayed or retrying task becomes ready."""
        while self._delayed:
            due_ms, task_id = self._delayed[0]
            record = self.live.get(task_id)
            if record is not None and not record.claim and record.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._delayed)
        return None

    def overdue(self, now_ms: int) -> Sequence[Overdue]:
        """Running tasks to be ended now."""
        if not self._ends or self._ends[0][0] > now_ms:
            return ()
        found = []
        for at, task_id, attempt, kill in self._ends:
            record = self.live.get(task_id)
            if at <= now_ms and record is not None and record.claim == attempt:
                found.append(Overdue(task_id, self.instance(record), kill))
        return sorted(found, key=lambda o: o.id)

    @property
    def next_deadline_ms(self) -> int | None:
        """When the first running task becomes overdue."""
        while self._ends:
            at, task_id, attempt, _ = self._ends[0]
            record = self.live.get(task_id)
            if record is not None and record.claim == attempt:
                return at
            heapq.heappop(self._ends)
        return None

    @property
    def counts(self) -> dict[str, int]:
        """Tasks by state; most of those that run are still Pending on disk."""
        found = {state.value: count for state, count in self._tasks.counts(self.pool).items()}
        pending, running = TaskState.PENDING.value, TaskState.RUNNING.value
        found[pending] = found.get(pending, 0) + found.get(running, 0) - len(self._running)
        found[running] = len(self._running)
        return found

    @property
    def running(self) -> Iterable[TaskRecord]:
        """What runs now."""
        return self._running.values()

    def _line_up(self, record: TaskRecord) -> None:
        if record.due_ms:
            heapq.heappush(self._delayed, (record.due_ms, record.id))
        else:
            self._order.add(record.id)

    def _stop_waiting(self, record: TaskRecord) -> None:
        self._waiting -= 1
        if not record.due_ms:
            self._order.discard(record.id)

    def _leave(self, record: TaskRecord) -> None:
        """The try is over, whatever follows."""
        self._claimed -= 1
        self.overran.discard(record.id)
        self._running.pop(record.id, None)
        record.claim = 0


class Queues:
    """The queue of every pool that has, or had, tasks."""

    def __init__(self, tasks: Tasks, store_id: str) -> None:
        self._tasks = tasks
        self._store_id = store_id
        self._by_pool: dict[str, TaskQueue] = {}
        for record in tasks.live():
            self.of(record.pool).load(record)

    def of(self, pool: str) -> TaskQueue:
        """The queue of a pool; an empty one for a pool without tasks."""
        queue = self._by_pool.get(pool)
        if queue is None:
            queue = self._by_pool[pool] = TaskQueue(pool, self._tasks, self._store_id)
        return queue

    def find(self, task_id: int) -> tuple[TaskQueue, TaskRecord] | None:
        """A live task and where it stands."""
        for queue in self._by_pool.values():
            record = queue.live.get(task_id)
            if record is not None:
                return queue, record
        return None

    def __iter__(self) -> Iterator[TaskQueue]:
        return iter(self._by_pool.values())
