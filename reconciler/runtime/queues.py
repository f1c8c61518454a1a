"""The tasks of each pool in memory: who is next, who is due, who runs too long.

    submitted -> waiting -> claimed (durable; the launcher has it) -> running -> ended
                    ^------------ back (never began) / due again (retry)

A plan sees `ready`, `claimed`, `overdue`, `expired`, `unwanted`; only the executor and the observer change anything. Who is
next is the pool's policy to say (policies/ordering); a task that comes back takes its old place.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter

from reconciler.controllers.base import Begun, Overdue, Suspension
from reconciler.controllers.tasks import WEIGH_EVERY_MS
from reconciler.policies.ordering.base import Ordering
from reconciler.policies.ordering.choose import ordering_of
from reconciler.policies.ordering.feedback import MultiLevelFeedback
from reconciler.policies.ordering.fifo import Fifo
from reconciler.resources.scheduling import SchedulingPolicySpec
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Reason
from reconciler.runtime.standstill import SUSPENDED, Standstill
from reconciler.store.base import TaskRecord, Tasks

ENDS_REMEMBERED = 64

_POLICY = "policy"
"""The name under which the order that has learned the rest is remembered."""

RETIRE_EVERY_MS = 30_000
RETIRE_AGAIN_MS = 100

SWEEP_AT = 256
"""So many moments that no longer count are not worth a sweep."""


class TaskQueue:
    """The live tasks of one pool."""

    def __init__(self, pool: str, tasks: Tasks, store_id: str) -> None:
        self.pool = pool
        self.live: dict[int, TaskRecord] = {}
        self.grace_ms = 30_000
        """Between the stop signal and the kill of a task that has to end."""
        self.overran: dict[int, Reason] = {}
        """Running tasks that were told to end because of their timeout or deadline, and which it was."""
        self._tasks = tasks
        self._store_id = store_id
        self.policy = SchedulingPolicySpec()
        self._order: Ordering = Fifo()
        self._ahead: dict[int, None] = {}  # claimed and not begun, as far as is known
        self._recalled: set[int] = set()
        self._stale: set[int] = set()
        self._deadlines: list[tuple[int, int]] = []  # of what has not begun
        self._late: dict[int, None] = {}
        self.next_retire_ms = 0
        self._weighed_ms = 0
        self.standstill = Standstill(pool, tasks)
        self._sunk: dict[int, int] = {}
        self._delayed: list[tuple[int, int]] = []
        self._ends: list[tuple[int, int, int, bool]] = []  # at, id, attempt, kill
        self._claimed = 0
        self._waiting = 0
        self._running: dict[int, TaskRecord] = {}
        self._ends_seen: deque[int] = deque(maxlen=ENDS_REMEMBERED)

    def order_by(self, policy: SchedulingPolicySpec) -> None:
        """From here on this policy says who is next; what waits stays."""
        if policy == self.policy:
            return
        self.policy = policy
        order = ordering_of(policy, self.live)
        for task_id in sorted(self._order):
            order.add(task_id)
        self._order = order
        self._resume(policy)
        self._stale = set(self._ahead)
        self._late.clear()
        self._deadlines = [(r.deadline_ms, r.id) for r in self.live.values() if r.deadline_ms and order.expires]
        heapq.heapify(self._deadlines)

    def _resume(self, policy: SchedulingPolicySpec) -> None:
        """The order goes on with what it knew before a restart; what an order of another policy knew is forgotten."""
        known, said = self._tasks.remembered(self.pool), policy.model_dump_json()
        known.pop(SUSPENDED, None)  # whatever the policy
        if known.pop(_POLICY, None) == said:
            self._order.resume({name: json.loads(text) for name, text in known.items()})
            return
        forgotten: dict[str, str | None] = dict.fromkeys(known)
        if self._order.remembers or known:
            self._tasks.remember(self.pool, forgotten | {_POLICY: said if self._order.remembers else None})

    def load(self, records: Iterable[TaskRecord]) -> None:
        """Tasks from an earlier life of the controller; claims are settled by what the launcher says."""
        for record in records:
            self.live[record.id] = record
            if record.claim:
                self._claimed += 1
                self._ahead[record.id] = None
            elif record.due_ms or record.deadline_ms:
                self._line_up(record)
            else:
                self._order.add(record.id)
        self._waiting = len(self.live) - self._claimed

    def retry_by(self, latest_ms: int) -> None:
        """No further try waits beyond that moment: the clock has been set back since it was decided."""
        for due_ms, task_id in list(self._delayed):
            record = self.live.get(task_id)
            if record is not None and record.state is TaskState.RETRYING and record.due_ms == due_ms > latest_ms:
                record.due_ms = latest_ms
                heapq.heappush(self._delayed, (latest_ms, task_id))

    def submit(self, records: Sequence[TaskRecord]) -> None:
        """New tasks."""
        self.live.update([(record.id, record) for record in records])
        self._waiting += len(records)
        self._tasks.stage_new(self.pool, records)
        for record in records:
            self._line_up(record)

    def claim(self, task_id: int) -> TaskRecord:
        """The task is the launcher's from here on; durable with the next commit."""
        record = self.live[task_id]
        record.claim = record.attempts + 1
        record.state = TaskState.PENDING
        record.due_ms = 0
        self._claimed += 1
        self._waiting -= 1
        self._ahead[task_id] = None
        self._tasks.stage(record)
        self._order.take(task_id)
        return record

    def give_back(self, record: TaskRecord, now_ms: int = 0) -> None:
        """The claim never began: the task takes its old place, the try uncounted."""
        record.claim = 0
        self._claimed -= 1
        self._waiting += 1
        self._ahead.pop(record.id, None)
        self._recalled.discard(record.id)
        self._order.put_back(record.id)
        self._watch_deadline(record)
        if record.cancelling:
            self.end(record, TaskState.CANCELLED, now_ms or record.submitted_ms)
        else:
            self._tasks.stage(record)

    def began(self, record: TaskRecord, pid: int, slot: int, started_ms: int) -> None:
        """The launcher has started it. Memory only: after a crash the launcher says so again."""
        self._running[record.id] = record
        self._ahead.pop(record.id, None)
        if self._recalled:
            self._recalled.discard(record.id)
        if self._order.recalls:
            self._order.begin(record.id)
        record.state = TaskState.RUNNING
        record.attempts = record.claim
        record.pid, record.slot, record.started_ms = pid, slot, started_ms
        if self._late:
            self._late.pop(record.id, None)
        if record.cancelling:
            self._end_at(0, record)
        else:
            if record.timeout_ms:
                self._end_at(started_ms + record.timeout_ms, record)
            if record.deadline_ms and self._order.expires:
                self._end_at(record.deadline_ms, record)

    def saw_end(self, now_ms: int) -> None:
        """A try has ended."""
        self._ends_seen.append(now_ms)

    def charge(self, record: TaskRecord, cpu_ms: int, ran_ms: int) -> None:
        """What the try that has ended used, for policies that count it."""
        if self._order.recalls:
            self._order.charge(record.id, cpu_ms, ran_ms)

    def again(self, record: TaskRecord, due_ms: int) -> None:
        """The try failed and there will be another, not before that moment."""
        self._leave(record)
        record.state, record.due_ms = TaskState.RETRYING, due_ms
        self._waiting += 1
        self._tasks.stage(record)
        self._line_up(record)
        self._save()

    def end(self, record: TaskRecord, state: TaskState, finished_ms: int) -> None:
        """It is over: this state never changes again."""
        if record.claim:
            self._leave(record)
        else:
            self._stop_waiting(record)
        record.state, record.finished_ms, record.claim = state, finished_ms, 0
        del self.live[record.id]
        if self._late:
            self._late.pop(record.id, None)
        self._tasks.stage(record)
        self._save()

    def expire(self, task_id: int, now_ms: int) -> None:
        """It waits and is too late for its deadline."""
        record = self.live[task_id]
        record.reason = Reason.START_DEADLINE_EXCEEDED.value
        record.message = "it did not begin in time for its deadline"
        self.end(record, TaskState.EXPIRED, now_ms)

    def forget(self, record: TaskRecord) -> None:
        """Takes a submission back that could not be made durable."""
        if record.id not in self.live:
            return
        if record.claim:
            self._order.put_back(record.id)
            self._order.discard(record.id)
            self._leave(record)
        else:
            self._stop_waiting(record)
        del self.live[record.id]
        self._late.pop(record.id, None)

    def cancel(self, record: TaskRecord, now_ms: int) -> bool:
        """Ends what waits here at once (True); what the launcher has is marked and has to be recalled or ended (False)."""
        if record.claim == 0:
            record.reason = None
            self.end(record, TaskState.CANCELLED, now_ms)
            return True
        record.cancelling = True
        self._tasks.stage(record)
        if record.state is TaskState.RUNNING:
            self._end_at(0, record)
        return False

    def end_all(self) -> list[int]:
        """The daemon stops: what runs has to end; returns what the launcher may not have begun yet."""
        for record in self._running.values():
            self._end_at(0, record)
        return [record.id for record in self.live.values() if record.claim and record.id not in self._running]

    def instance(self, record: TaskRecord) -> str:
        """The name of the try that has been claimed; unique over all state directories of the host."""
        return f"{self._store_id}.{record.id}.{record.claim}"

    def step_done(self, overdue: Overdue, now_ms: int) -> None:
        """The stop signal has been sent (then the kill follows after the grace), or the kill."""
        record = self.live.get(overdue.id)
        self._ends = [end for end in self._ends if end[1] != overdue.id]
        heapq.heapify(self._ends)
        if record is not None and record.deadline_ms and self._order.expires and now_ms >= record.deadline_ms:
            self.overran[record.id] = Reason.DEADLINE_EXCEEDED
        elif record is not None and record.timeout_ms and now_ms - record.started_ms >= record.timeout_ms:
            self.overran[record.id] = Reason.TIMED_OUT
        if record is not None and not overdue.kill:
            heapq.heappush(self._ends, (now_ms + self.grace_ms, record.id, record.claim, True))

    # what a plan sees

    def ready(self, limit: int, now_ms: int) -> Sequence[int]:
        """Ids of the first tasks that may go now, in the order of the policy."""
        while self._delayed and self._delayed[0][0] <= now_ms:
            due_ms, task_id = heapq.heappop(self._delayed)
            record = self.live.get(task_id)
            if record is not None and not record.claim and record.due_ms == due_ms:
                record.state, record.due_ms = TaskState.PENDING, 0
                self._order.add(task_id)
        found = self._order.peek(max(0, limit), now_ms)
        self._save()  # a boost may have come due
        return found

    def expired(self, now_ms: int, limit: int) -> Sequence[int]:
        """Ids of tasks that wait here and can no longer meet their deadline."""
        self._find_late(now_ms)
        return list(islice((task_id for task_id in self._late if not self.live[task_id].claim), limit))

    def unwanted(self, now_ms: int) -> Sequence[int]:
        """What the launcher has not begun and should not: it is too late, or something here has to go before it."""
        if not self._ahead:
            self._stale.clear()
            return ()
        self._find_late(now_ms)
        found = [task_id for task_id in self._late if task_id in self._ahead and task_id not in self._recalled]
        if self._stale:  # claimed in the order of another policy
            found += [task_id for task_id in self._stale if task_id in self._ahead and task_id not in self._late]
        elif self._order.recalls and (first := self.ready(1, now_ms)):
            before = self._order.goes_before
            asked = self._recalled
            found += [i for i in self._ahead if i not in asked and i not in self._late and before(first[0], i)]
        return found

    @property
    def recalling(self) -> int:
        """How many the launcher has been asked for and has neither begun nor given back."""
        return len(self._recalled)

    @property
    def next_late_ms(self) -> int | None:
        """When the first task that has not begun can no longer meet its deadline."""
        return self._deadlines[0][0] - self._order.lead_ms if self._deadlines else None

    @property
    def next_weigh_ms(self) -> int | None:
        """When the CPU time of what runs is looked at again; None: nobody asks for it."""
        if self._running and self.policy.demotes_what_runs:
            return self._weighed_ms + WEIGH_EVERY_MS
        return None

    def weighed(self, now_ms: int) -> None:
        """The CPU time of all that runs has been looked at."""
        self._weighed_ms = now_ms
        self._sunk = {task_id: level for task_id, level in self._sunk.items() if task_id in self._running}
        self.standstill.forget(self._running)

    def sinks(self, record: TaskRecord, cpu_ms: int) -> int:
        """The level to which that much CPU time takes a running task; 0: it has been there before."""
        order = self._order
        if not isinstance(order, MultiLevelFeedback):
            return 0
        level = self.standstill.weigh(record.id, cpu_ms, order) if self.policy.suspends else order.level_of(cpu_ms)
        if level <= self._sunk.get(record.id, 0):
            return 0
        self._sunk[record.id] = level
        return level

    def suspension(self, limit: int, now_ms: int) -> Suspension | None:
        """What runs and what waits, where the policy stops what runs, or what it has stopped still stands."""
        order, still = self._order, self.standstill
        demotes = self.policy.suspends and isinstance(order, MultiLevelFeedback)
        if not demotes and not still:
            return None
        waiting: list[int] = []
        if isinstance(order, MultiLevelFeedback):
            waiting = sorted(map(order.level, (*self._ahead, *self.ready(limit, now_ms))))[:limit]
        begun = [
            Begun(record.id, still.level(record.id), record.id in still)
            for record in self._running.values()
            if record.pid and not record.cancelling and record.id not in self.overran  # those are on their way out
        ]
        return Suspension(demotes, begun, waiting, tuple(still.unsaid & self._running.keys()), still.lane)

    @property
    def still(self) -> int:
        """How many running tasks stand still."""
        return len(self.standstill)

    def retired(self, now_ms: int, more: bool) -> None:
        """Ended tasks have been looked through; with `more`, the rest of them soon."""
        self.next_retire_ms = now_ms + (RETIRE_AGAIN_MS if more else RETIRE_EVERY_MS)

    def recalled(self, task_id: int) -> None:
        """The launcher has been asked for it."""
        self._recalled.add(task_id)
        self._stale.discard(task_id)

    def too_late(self, deadline_ms: int, slots: int, now_ms: int) -> bool:
        """Whether a new task could not meet that deadline, as far as the policy can know."""
        return self._order.too_late(deadline_ms, slots, now_ms)

    @property
    def waiting(self) -> int:
        """Tasks not claimed, ready or not."""
        return self._waiting

    @property
    def backlog(self) -> int:
        """Tasks that could begin now and have not."""
        return len(self._order) + self._claimed - len(self._running)

    @property
    def lags(self) -> bool:
        """Whether tasks could begin that nobody has been given."""
        return len(self._order) > 0

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

    def _end_at(self, at_ms: int, record: TaskRecord) -> None:
        if len(self._ends) > SWEEP_AT + 4 * len(self._running):  # most of them have ended by themselves
            self._ends = [end for end in self._ends if end[1] in self._running]
            heapq.heapify(self._ends)
        heapq.heappush(self._ends, (at_ms, record.id, record.claim, False))

    def _find_late(self, now_ms: int) -> None:
        while self._deadlines and self._deadlines[0][0] - self._order.lead_ms <= now_ms:
            _, task_id = heapq.heappop(self._deadlines)
            if task_id in self.live and task_id not in self._running:
                self._late[task_id] = None

    def _watch_deadline(self, record: TaskRecord) -> None:
        if record.deadline_ms and self._order.expires:
            if len(self._deadlines) > SWEEP_AT + 2 * (self._waiting + self._claimed):  # most of them have ended
                self._deadlines = [pair for pair in self._deadlines if pair[1] in self.live]
                heapq.heapify(self._deadlines)
            heapq.heappush(self._deadlines, (record.deadline_ms, record.id))

    def _line_up(self, record: TaskRecord) -> None:
        self._watch_deadline(record)
        if record.due_ms:
            heapq.heappush(self._delayed, (record.due_ms, record.id))
        else:
            self._order.add(record.id)

    def _stop_waiting(self, record: TaskRecord) -> None:
        self._waiting -= 1
        if not record.due_ms:
            self._order.discard(record.id)

    def _save(self) -> None:
        """What the order has learned goes to the disk with what it was learned from."""
        if self._order.remembers and (unsaved := self._order.unsaved()):
            self._tasks.remember(
                self.pool,
                {name: None if value is None else json.dumps(value) for name, value in unsaved.items()},
            )

    def _leave(self, record: TaskRecord) -> None:
        """The try is over, whatever follows."""
        self._claimed -= 1
        if self._running.pop(record.id, None) is None:
            self._ahead.pop(record.id, None)
        if self._recalled:
            self._recalled.discard(record.id)
        if self.overran:
            self.overran.pop(record.id, None)
        if self.standstill:
            self.standstill.end(record)
        record.claim = 0


class Queues:
    """The queue of every pool that has, or had, tasks."""

    def __init__(self, tasks: Tasks, store_id: str) -> None:
        self._tasks = tasks
        self._store_id = store_id
        self._by_pool: dict[str, TaskQueue] = {}
        for pool, records in groupby(sorted(tasks.live(), key=attrgetter("pool")), attrgetter("pool")):
            self.of(pool).load(records)

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
