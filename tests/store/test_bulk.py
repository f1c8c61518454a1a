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
