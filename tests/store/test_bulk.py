"""Many tasks at once: written together, and the same as one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.resources.task import TaskState
from reconciler.store import tasktable
from reconciler.store.base import TaskRecord

TOUCHED = {
    "attempts": 2,
    "claim": 3,
    "due_ms": 5,
    "started_ms": 6,
    "exit_code": 0,
    "signal": "SIGTERM",
    "reason": "Exited",
    "message": "said",
    "slot": 0,
    "cancelling": True,
    "result": "null",
    "tries": "[]",
}


def test_every_column_of_many_new_tasks_comes_back_as_it_was_given(tmp_path, opened):
    store = opened(tmp_path)
    given: list[TaskRecord] = []
    said = {"idempotency_key": None, "digest": None, "on_unknown_fail": True, "priority": 7, "tenant": "a", "key": "k"}
    for number in range(1, 3 * tasktable._AT_ONCE):
        record = TaskRecord(number, "batch", TaskState.PENDING, 1000 + number, 3, f'{{"number":{number}}}', number)
        if number % 5 == 0:
            record = replace(record, **said, deadline_ms=9)
        if number % 7 == 0:
            record = replace(record, idempotency_key=f"key {number}", digest="d")
        given.append(record)
    for record, (name, value) in zip(given[30:], TOUCHED.items(), strict=False):
        setattr(record, name, value)
    for record in given:
        store.tasks.stage(record)
    store.commit()
    store.close()

    tasks = opened(tmp_path).tasks
    assert [tasks.get(record.id) for record in given] == [AsGiven(record) for record in given]


@pytest.mark.parametrize("column", ["", "id", *TOUCHED])
def test_claims_and_ends_come_back_as_they_were_though_most_are_written_in_short(tmp_path, opened, column):
    store = opened(tmp_path)
    records = [TaskRecord(store.tasks.next_id(), "batch", TaskState.PENDING, 1000, 3, "{}") for _ in range(9)]
    for record in records:
        store.tasks.stage(record)
    store.commit()
    odd = records[4]
    for record in records:
        if record is odd and column == "id":
            continue  # not claimed: a hole in the row of numbers
        record.claim = 1
        if record is odd and column:
            setattr(record, column, TOUCHED[column])
        store.tasks.stage(record)
    store.commit()
    claims = store.read("SELECT id, claim FROM task ORDER BY id")
    assert claims == [(record.id, record.claim) for record in records]
    for record in records:
        record.state, record.attempts, record.claim, record.slot = TaskState.SUCCEEDED, 1, 0, record.id % 4
        record.started_ms, record.finished_ms, record.exit_code, record.reason = 2000, 3000 + record.id, 0, "Exited"
        if record is records[6] and column in TOUCHED and column != "claim":
            setattr(record, column, TOUCHED[column])
        store.tasks.stage(record)
    store.commit()
    assert [store.tasks.get(record.id) for record in records] == [AsGiven(record) for record in records]


@pytest.mark.parametrize("count", [1, tasktable._AT_ONCE - 1, tasktable._AT_ONCE, tasktable._AT_ONCE + 1])
def test_tasks_of_a_commit_that_failed_are_not_there_however_many(tmp_path, make, opened, count):
    store = opened(tmp_path)
    first = make.task(store)
    store.commit()
    for _ in range(count):
        make.task(store)
    store.tasks.stage(replace(first, id=count + 2, idempotency_key="k"))
    store.tasks.stage(replace(first, id=count + 3, idempotency_key="k"))
    with pytest.raises(Exception, match="UNIQUE"):
        store.commit()
    store.close()
    assert [record.id for record in opened(tmp_path).tasks.live()] == [1]


def test_pages_of_tasks_are_what_looking_through_all_gives(tmp_path, make, opened):
    """Whatever is asked for, and wherever the page begins: the short ways to it leave nothing out."""
    store = opened(tmp_path)
    for number in range(120):
        pool, state = ("batch", "other")[number % 4 == 1], TaskState.DELAYED if number % 7 == 2 else TaskState.PENDING
        record = make.task(store, pool=pool, state=state)
        if number % 9 == 3:
            store.commit()
            record.claim = 1
            store.tasks.stage(record)
            record.state = TaskState.RUNNING  # in memory only, as it is when the launcher has begun it
        if number % 5 == 4:
            store.commit()
            record.state, record.claim = TaskState.SUCCEEDED, 0
            store.tasks.stage(record)
    store.commit()
    make.task(store, pool="batch")  # not durable: nobody is told of it
    everything = {r.id: store.tasks.get(r.id) for r in store.tasks.query(limit=1000)}
    assert len(everything) == 120
    for pool in (None, "batch", "other", "none"):
        for state in (None, *TaskState):
            for after in (0, 1, 57, 119, 120, 500):
                found = [r.id for r in store.tasks.query(pool, state, limit=10, after_id=after)]
                meant = [r for r in everything.values() if pool in (None, r.pool) and state in (None, r.state)]
                assert found == [r.id for r in meant if r.id > after][:10], (pool, state, after)


class AsGiven:
    """Equal to a record with the same values: records themselves are compared by identity."""

    def __init__(self, record: TaskRecord) -> None:
        self._record = record

    def __eq__(self, other: object) -> bool:
        names = (*tasktable._COLUMNS, "pid")
        return all(getattr(self._record, name) == getattr(other, name) for name in names)

    def __repr__(self) -> str:
        return repr(self._record)

    __hash__ = None  # type: ignore[assignment]
