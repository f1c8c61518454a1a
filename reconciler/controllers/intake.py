"""Which submitted tasks a pool takes, and what becomes of each: a new record, or the one that had its key before. Pure.

    Submission + the pool's defaults -> TaskRecord          same key, same content -> the record that is there

Contract: all or none. What is refused is refused before anything has been given a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from reconciler.errors import Conflict, NotFound, QueueFull, Refused, Unavailable
from reconciler.resources.environment import MAX_ARGUMENT_BYTES
from reconciler.resources.pool import OnUnknown, Pool, Tasks
from reconciler.resources.task import MAX_PAYLOAD_BYTES, Submission, TaskState
from reconciler.store.base import TaskRecord


class Taken(NamedTuple):
    """`answers` has one record for each submission, in order; `new` are those of them that are not known yet."""

    answers: list[TaskRecord]
    new: list[TaskRecord]


def admit(name: str, pool: Pool | None, count: int, waiting: int, stopping: bool, degraded: str) -> Tasks:
    """The settings of a pool that takes `count` tasks more; raises what speaks against it.

    `waiting`: tasks of the pool not begun; `stopping`: the daemon is; `degraded`: why nothing can be made durable, or "".
    """
    if pool is None:
        raise NotFound(f"there is no pool/{name}", "`reconciler get pools` lists what there is")
    tasks = pool.spec.tasks
    if tasks is None:
        raise Refused(f"pool/{name} takes no tasks", "give it `tasks: {mode: PerTask}`, or choose another pool")
    if pool.metadata.deleted_at is not None or stopping:
        raise Unavailable(f"pool/{name} is being stopped and takes no new tasks")
    if degraded:
        raise Unavailable(f"tasks cannot be made durable now: {degraded}", "free space on the state's disk")
    if waiting + count > tasks.queue_limit:
        raise QueueFull(
            f"pool/{name} has {waiting} tasks waiting and takes at most {tasks.queue_limit}",
            "submit later, or raise spec.tasks.queueLimit",
        )
    return tasks


def take(
    pool: str,
    defaults: Tasks,
    submissions: Sequence[Submission],
    by_key: Callable[[str, str], TaskRecord | None],
    next_id: Callable[[], int],
    now_ms: int,
) -> Taken:
    """The records of these submissions. Raises Refused, and Conflict for a key that another task has."""
    answers: list[TaskRecord] = []
    new: list[TaskRecord] = []
    keyed: dict[str, TaskRecord] = {}
    for submission in submissions:
        record = _record(pool, defaults, submission, now_ms)
        key = record.idempotency_key
        if key is not None:
            twin = keyed.get(key) or by_key(pool, key)
            if twin is not None:
                if twin.digest != record.digest:
                    whose = f"task/{twin.id}, which is another task" if twin.id else "another task of this request"
                    raise Conflict(f"idempotency key {key!r} belongs to {whose}", "use a new key for new work")
                answers.append(twin)
                continue
            keyed[key] = record
        new.append(record)
        answers.append(record)
    for record in new:
        record.id = next_id()
    return Taken(answers, new)


def _record(pool: str, defaults: Tasks, submission: Submission, now_ms: int) -> TaskRecord:
    spec: dict[str, Any] = {"pool": pool, "command": submission.command}
    if submission.env:
        spec["env"] = submission.env
    if submission.payload is not None:
        spec["payload"] = submission.payload
    if submission.idempotency_key is not None:
        spec["idempotencyKey"] = submission.idempotency_key
    text = _text(spec)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise Refused(f"a task of {len(text)} bytes, more than {MAX_PAYLOAD_BYTES}", "pass a file's name instead")
    if submission.payload is not None:
        payload = json.dumps(submission.payload, separators=(",", ":"))
        if len(payload) > MAX_ARGUMENT_BYTES:
            raise Refused(
                f"a payload of {len(payload)} bytes, more than the {MAX_ARGUMENT_BYTES} that one variable can hold",
                "pass a file's name instead",
            )
    timeout_s = submission.timeout_s if submission.timeout_s is not None else defaults.timeout_s
    on_unknown = submission.on_unknown or defaults.on_unknown
    record = TaskRecord(
        id=0,
        pool=pool,
        state=TaskState.PENDING,
        submitted_ms=now_ms,
        max_attempts=submission.max_attempts or defaults.retry.max_attempts,
        spec=text,
        timeout_ms=round(timeout_s * 1000) if timeout_s is not None else 0,
        on_unknown_fail=on_unknown is OnUnknown.FAIL,
    )
    if submission.idempotency_key is not None:
        record.idempotency_key = submission.idempotency_key
        asked = [text, submission.timeout_s, submission.max_attempts, submission.on_unknown]
        record.digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    return record


_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode
