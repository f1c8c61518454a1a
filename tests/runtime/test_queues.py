"""The queue of a pool: order, claims, returns, ends."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.resources.scheduling import SchedulingPolicySpec
from reconciler.resources.task import TaskState
from reconciler.runtime.queues import Queues, TaskQueue
from reconciler.store.base import TaskRecord
from reconciler.store.memory import MemoryStore

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def a_queue() -> tuple[MemoryStore, TaskQueue]:
    store = MemoryStore(lambda: T0)
    return store, Queues(store.tasks, store.id).of("batch")


def submitted(store: MemoryStore, queue: TaskQueue, **fields: object) -> TaskRecord:
    record = TaskRecord(
        id=store.tasks.next_id(),
        pool="batch",
        state=TaskState.PENDING,
        submitted_ms=0,
        max_attempts=3,
        spec="{}",
        **fields,  # type: ignore[arg-type]
    )
    queue.submit([record])
    return record


def test_tasks_go_in_the_order_of_submission() -> None:
    store, queue = a_queue()
    ids = [submitted(store, queue).id for _ in range(5)]
    assert queue.ready(3, 0) == ids[:3]
    queue.claim(ids[0])
    assert queue.ready(9, 0) == ids[1:]


def test_a_task_that_never_began_takes_its_old_place_and_its_try_is_not_counted() -> None:
    store, queue = a_queue()
    ids = [submitted(store, queue).id for _ in range(4)]
    first, second = (queue.claim(i) for i in ids[:2])
    queue.give_back(second)
    queue.give_back(first)
    assert queue.ready(9, 0) == ids
    assert first.attempts == 0 and first.state is TaskState.PENDING


def test_a_failed_try_waits_until_it_is_due() -> None:
    store, queue = a_queue()
    record = submitted(store, queue)
    queue.claim(record.id)
    queue.began(record, pid=7, slot=0, started_ms=100)
    queue.again(record, due_ms=5_000)
    assert record.state is TaskState.RETRYING and record.attempts == 1
    assert queue.ready(9, 4_999) == [] and queue.next_due_ms == 5_000
    assert queue.ready(9, 5_000) == [record.id]
    assert queue.claim(record.id).claim == 2


def test_a_task_past_its_timeout_gets_the_signal_and_after_the_grace_the_kill() -> None:
    store, queue = a_queue()
    queue.grace_ms = 1_000
    record = submitted(store, queue, timeout_ms=500)
    queue.claim(record.id)
    queue.began(record, pid=7, slot=0, started_ms=100)
    assert queue.overdue(599) == () and queue.next_deadline_ms == 600
    (signal,) = queue.overdue(600)
    assert (signal.id, signal.kill) == (record.id, False)
    queue.step_done(signal, 600)
    assert list(queue.overdue(1_599)) == [] and record.id in queue.overran
    (kill,) = queue.overdue(1_600)
    assert kill.kill
    queue.step_done(kill, 1_600)
    assert list(queue.overdue(99_999)) == []


def test_fault_T13_a_cancel_of_what_waits_ends_it_and_of_what_runs_marks_it() -> None:
    store, queue = a_queue()
    waits, runs, claimed = (submitted(store, queue) for _ in range(3))
    queue.claim(runs.id)
    queue.began(runs, pid=7, slot=0, started_ms=0)
    queue.claim(claimed.id)
    assert queue.cancel(waits, 5) and waits.state is TaskState.CANCELLED
    assert not queue.cancel(runs, 5) and runs.state is TaskState.RUNNING
    assert [o.id for o in queue.overdue(5)] == [runs.id]
    assert not queue.cancel(claimed, 5)
    queue.give_back(claimed)  # the launcher had not begun it
    assert claimed.state is TaskState.CANCELLED
    assert queue.counts["Cancelled"] == 2 and queue.counts["Running"] == 1


def test_what_an_earlier_controller_left_is_taken_up() -> None:
    store, queue = a_queue()
    waiting, claimed, done = (submitted(store, queue) for _ in range(3))
    queue.claim(claimed.id)
    queue.claim(done.id)
    queue.end(done, TaskState.SUCCEEDED, 9)
    store.commit()
    after = Queues(store.tasks, store.id).of("batch")
    assert after.ready(9, 0) == [waiting.id] and after.claimed == 1 and after.waiting == 1


class QueueAgainstItsModel(RuleBasedStateMachine):
    """Whatever happens, counts and order are those of a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.queue = a_queue()
        self.records: list[TaskRecord] = []
        self.now_ms = 0

    def pick(self, index: int, *, claimed: bool) -> TaskRecord | None:
        found = [r for r in self.records if not r.state.ended and bool(r.claim) is claimed]
        return found[index % len(found)] if found else None

    @rule()
    def submit(self) -> None:
        self.records.append(submitted(self.store, self.queue))

    @rule(limit=st.integers(1, 4))
    def dispatch(self, limit: int) -> None:
        expected = [r.id for r in self.records if not r.state.ended and not r.claim and r.due_ms <= self.now_ms]
        got = list(self.queue.ready(limit, self.now_ms))
        assert got == expected[:limit]
        for task_id in got:
            self.queue.claim(task_id)

    @rule(index=st.integers(0, 99))
    def start(self, index: int) -> None:
        record = self.pick(index, claimed=True)
        if record is not None:
            self.queue.began(record, 1, 0, self.now_ms)

    @rule(index=st.integers(0, 99), due_in=st.integers(1, 50))
    def fail(self, index: int, due_in: int) -> None:
        record = self.pick(index, claimed=True)
        if record is not None and record.state is TaskState.RUNNING:
            self.queue.again(record, self.now_ms + due_in)

    @rule(index=st.integers(0, 99))
    def succeed(self, index: int) -> None:
        record = self.pick(index, claimed=True)
        if record is not None and record.state is TaskState.RUNNING:
            self.queue.end(record, TaskState.SUCCEEDED, self.now_ms)

    @rule(index=st.integers(0, 99))
    def back(self, index: int) -> None:
        record = self.pick(index, claimed=True)
        if record is not None and record.state is not TaskState.RUNNING:
            self.queue.give_back(record)

    @rule(index=st.integers(0, 99))
    def cancel(self, index: int) -> None:
        record = self.pick(index, claimed=False)
        if record is not None:
            self.queue.cancel(record, self.now_ms)

    @rule(by=st.integers(1, 60))
    def wait(self, by: int) -> None:
        self.now_ms += by

    @precondition(lambda self: self.records)
    @rule()
    def commit(self) -> None:
        self.store.commit()

    @invariant()
    def the_counts_are_true(self) -> None:
        live = [r for r in self.records if not r.state.ended]
        assert self.queue.waiting == sum(1 for r in live if not r.claim)
        assert self.queue.claimed == sum(1 for r in live if r.claim)
        counts = self.queue.counts
        assert counts["Running"] == sum(1 for r in live if r.state is TaskState.RUNNING)
        assert counts["Succeeded"] == sum(1 for r in self.records if r.state is TaskState.SUCCEEDED)
        assert sum(counts.values()) == len(self.records)


TestQueueAgainstItsModel = QueueAgainstItsModel.TestCase
TestQueueAgainstItsModel.settings = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)


def test_an_end_never_changes() -> None:
    store, queue = a_queue()
    record = submitted(store, queue)
    queue.claim(record.id)
    queue.end(record, TaskState.SUCCEEDED, 1)
    store.commit()
    record.state = TaskState.PENDING
    with pytest.raises(ValueError, match="has ended"):
        store.tasks.stage(record)


URGENT_FIRST = SchedulingPolicySpec.model_validate({"type": "Priority"})


def test_another_policy_keeps_what_waits_and_what_is_claimed() -> None:
    store, queue = a_queue()
    records = [submitted(store, queue, priority=p) for p in (10, 150, 220, 255)]
    queue.claim(records[0].id)
    queue.order_by(URGENT_FIRST)
    assert queue.ready(9, 0) == [4, 3, 2] and (queue.waiting, queue.claimed) == (3, 1)
    queue.give_back(records[0])
    assert queue.ready(9, 0) == [4, 3, 2, 1]
    queue.order_by(SchedulingPolicySpec())
    assert queue.ready(9, 0) == [1, 2, 3, 4]


def test_what_waits_at_the_launcher_is_wanted_back_when_something_more_urgent_comes() -> None:
    store, queue = a_queue()
    queue.order_by(URGENT_FIRST)
    runs, near, far = (queue.claim(submitted(store, queue).id) for _ in range(3))
    queue.began(runs, 1, 0, 0)
    assert list(queue.unwanted(0)) == []
    urgent = submitted(store, queue, priority=200)
    assert list(queue.unwanted(0)) == [near.id, far.id]
    for ahead in (near, far):
        queue.recalled(ahead.id)
    assert list(queue.unwanted(0)) == [] and queue.recalling == 2
    queue.began(near, 1, 0, 0)  # it was too late for that one
    queue.give_back(far)
    assert queue.ready(9, 0) == [urgent.id, far.id] and queue.recalling == 0


def test_fault_T8_a_deadline_ends_what_waits_and_what_runs() -> None:
    store, queue = a_queue()
    waits, retries, ahead, runs = (submitted(store, queue, deadline_ms=1_000) for _ in range(4))
    later = submitted(store, queue, deadline_ms=2_000)
    for record in (retries, ahead, runs):
        queue.claim(record.id)
    queue.began(runs, 1, 0, 10)
    queue.began(retries, 1, 0, 10)
    queue.again(retries, due_ms=5_000)
    assert queue.next_late_ms == 1_000 and list(queue.expired(999, 9)) == [] and list(queue.overdue(999)) == []
    assert sorted(queue.expired(1_000, 9)) == [waits.id, retries.id] and list(queue.unwanted(1_000)) == [ahead.id]
    for task_id in queue.expired(1_000, 9):
        queue.expire(task_id, 1_000)
    assert waits.state is retries.state is TaskState.EXPIRED and waits.reason == "StartDeadlineExceeded"
    queue.recalled(ahead.id)
    queue.give_back(ahead)
    assert list(queue.expired(1_000, 9)) == [ahead.id]
    queue.expire(ahead.id, 1_000)
    (overdue,) = queue.overdue(1_000)
    assert overdue.id == runs.id
    queue.step_done(overdue, 1_000)
    assert queue.overran[runs.id] == "DeadlineExceeded"
    assert queue.next_late_ms == 2_000 and queue.ready(9, 1_000) == [later.id]


FAIR = SchedulingPolicySpec.model_validate({"type": "FairShare"})


def used(queue: TaskQueue, record: TaskRecord, cpu_ms: int) -> None:
    """It runs, and ends with that much CPU time used."""
    queue.claim(record.id)
    queue.began(record, 1, 0, 0)
    queue.charge(record, cpu_ms, cpu_ms)
    queue.end(record, TaskState.SUCCEEDED, 9)


def test_what_the_tenants_have_used_outlives_the_controller_and_not_the_policy() -> None:
    store, queue = a_queue()
    queue.order_by(FAIR)
    greedy = [submitted(store, queue, tenant="greedy").id for _ in range(3)]
    modest = [submitted(store, queue, tenant="modest").id for _ in range(3)]
    used(queue, queue.live[greedy.pop(0)], 9_000)
    used(queue, queue.live[modest.pop(0)], 1_000)
    store.commit()

    after = Queues(store.tasks, store.id).of("batch")
    after.order_by(FAIR)
    assert after.ready(2, 0) == modest

    after.order_by(SchedulingPolicySpec())
    after.order_by(FAIR)
    assert after.ready(2, 0) == [greedy[0], modest[0]], "another policy begins anew"
    assert set(store.tasks.remembered("batch")) == {"policy"}


SUSPENDING = SchedulingPolicySpec.model_validate(
    {"type": "MultiLevelFeedback", "quanta": ["100ms", "1s"], "boostInterval": "30s", "demotion": "Suspend"}
)


def running(store: MemoryStore, queue: TaskQueue) -> TaskRecord:
    record = queue.claim(submitted(store, queue).id)
    queue.began(record, 100 + record.id, 0, 0)
    return record


def test_what_stands_still_is_known_after_a_restart_until_it_goes_on_or_ends() -> None:
    store, queue = a_queue()
    queue.order_by(SUSPENDING)
    first, second, third = (running(store, queue) for _ in range(3))
    for record in (first, second, third):
        queue.standstill.begin(record)
    queue.standstill.end(first)
    queue.end(third, TaskState.SUCCEEDED, 9)
    store.commit()
    assert queue.still == 1 and not first.message and "stands still" in second.message

    after = Queues(store.tasks, store.id).of("batch")
    for record in (first, second):
        after.began(record, record.pid, 0, 0)
    seen = after.suspension(2, 0)
    assert seen is not None and not seen.demotes, "its policy is not known yet"
    assert [(task.id, task.suspended) for task in seen.begun] == [(first.id, False), (second.id, True)]
    assert list(seen.unsaid) == [second.id]
    after.order_by(SUSPENDING)
    after.end(second, TaskState.FAILED, 9)
    assert after.still == 0 and set(store.tasks.remembered("batch")) == {"policy"}


def test_a_boost_forgives_what_runs_the_cpu_time_it_has_used() -> None:
    store, queue = a_queue()
    queue.order_by(SUSPENDING)
    long, short = running(store, queue), submitted(store, queue)

    def levels(now_ms: int) -> tuple[list[int], list[int]]:
        seen = queue.suspension(1, now_ms)
        assert seen is not None
        return [task.level for task in seen.begun], list(seen.waiting)

    queue.sinks(long, 99)
    assert levels(1_000) == ([0], [0])
    queue.sinks(long, 2_000)
    assert levels(2_000) == ([1], [0])
    queue.ready(1, 31_500)
    queue.sinks(long, 2_050)
    assert levels(31_500) == ([0], [0])
    queue.sinks(long, 2_150)
    assert levels(32_000) == ([1], [0])
    assert queue.live[short.id] is short
