"""Which submitted tasks a pool takes, and what becomes of each: a new record, or the one that had its key before. Pure.

    Submission + the pool's defaults -> TaskRecord          same key, same content -> the record that is there

Contract: all or none. What is refused is refused before anything has been given a number.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from reconciler.errors import Conflict, NotFound, QueueFull, Refused, Unavailable
from reconciler.resources.environment import MAX_ARGUMENT_BYTES
from reconciler.resources.meta import Wish
from reconciler.resources.pool import Mode, OnUnknown, Pool, Tasks
from reconciler.resources.scheduling import DEFAULT_PRIORITY
from reconciler.resources.task import MAX_PAYLOAD_BYTES, RETRIED, Plain, Submission, TaskState
from reconciler.resources.units import format_moment, from_ms, to_ms
from reconciler.store.base import TaskRecord


class Taken(NamedTuple):
    """`answers` has one record for each submission, in order; `new` are those of them that are not known yet."""

    answers: list[TaskRecord]
    new: list[TaskRecord]


def admit(
    name: str, pool: Pool | None, count: int, waiting: int, stopping: bool, degraded: str, now: datetime
) -> Tasks:
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
    standing = pool.metadata.standing(now)
    if standing is not None and standing.wish is Wish.DRAINING:
        why = f": {standing.reason}" if standing.reason else ""
        raise Refused(
            f"pool/{name} takes no new tasks: {standing.actor} drains it{why}", f"reconciler resume pool/{name}"
        )
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
    submissions: Sequence[Submission | Plain],
    by_key: Callable[[str, str], TaskRecord | None],
    next_id: Callable[[], int],
    now_ms: int,
    too_late: Callable[[int], bool] | None = None,
) -> Taken:
    """The records of these submissions. Raises Refused, and Conflict for a key that another task has.

    `too_late` says of a deadline whether what goes before it leaves too little time; given, such a task is refused.
    """
    answers: list[TaskRecord] = []
    new: list[TaskRecord] = []
    keyed: dict[str, TaskRecord] = {}
    plain = _plain_ones(pool, defaults, now_ms)
    for asked in submissions:
        record = plain(asked)
        if record is not None:
            new.append(record)
            answers.append(record)
            continue
        submission = asked if isinstance(asked, Submission) else Submission.model_validate(asked)
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
        if too_late is not None and record.deadline_ms and too_late(record.deadline_ms):
            at = format_moment(from_ms(record.deadline_ms))
            raise Refused(
                f"pool/{pool} cannot run it by {at}: too much goes before it",
                "submit it with a later deadline, or give the pool more slots",
            )
        new.append(record)
        answers.append(record)
    for record in new:
        record.id = next_id()
    return Taken(answers, new)


def retry_key(task_id: int) -> str:
    """Under this key the retry of a task is known: asked twice, made once."""
    return f"retry/{task_id}"


def again(old: TaskRecord, next_id: Callable[[], int], now_ms: int) -> TaskRecord:
    """A new task like one that has ended. Raises Refused where there is nothing to try once more."""
    if old.state not in RETRIED:
        raise Refused(
            f"task/{old.id} is {old.state}",
            "it has succeeded: submit a new one" if old.state.ended else "wait for its end, or cancel it",
        )
    spec = json.loads(old.spec or "{}")
    for name in ("notBefore", "idempotencyKey", *(("deadline",) if old.deadline_ms <= now_ms else ())):
        spec.pop(name, None)
    return TaskRecord(
        id=next_id(),
        pool=old.pool,
        state=TaskState.PENDING,
        submitted_ms=now_ms,
        max_attempts=old.max_attempts,
        spec=_text({**spec, "retryOf": str(old.id)}),
        timeout_ms=old.timeout_ms,
        idempotency_key=retry_key(old.id),
        digest="",
        on_unknown_fail=old.on_unknown_fail,
        priority=old.priority,
        tenant=old.tenant,
        key=old.key,
        deadline_ms=old.deadline_ms if old.deadline_ms > now_ms else 0,
    )


def _plain_ones(pool: str, defaults: Tasks, now_ms: int) -> Callable[[Submission | Plain], TaskRecord | None]:
    """What makes the record of a task that is a command, or for a Warm pool a payload, and little else, in a third of the
    time: they come by the million.

    None for any other. The record is the one that `_record` makes.
    """
    warm = defaults.mode is Mode.WARM
    rest = f',"pool":{_text(pool)}}}'
    timeout_ms = round(defaults.timeout_s * 1000) if defaults.timeout_s is not None else 0
    max_attempts, unknown_fails = defaults.retry.max_attempts, defaults.on_unknown is OnUnknown.FAIL
    pending = TaskState.PENDING

    def record(asked: Submission | Plain) -> TaskRecord | None:
        if isinstance(asked, dict):
            payload, command, priority = None, asked["command"], asked.get("priority", DEFAULT_PRIORITY)
        elif asked.model_fields_set <= (_PLAIN_WARM if warm else _PLAIN):
            payload, command, priority = asked.payload, asked.command, asked.priority
        else:
            return None
        if warm and payload is not None:
            spec = f'{{"payload":{_text(payload)}{rest}'
        elif command and not warm:
            spec = f'{{"command":[{",".join(map(encode_basestring, command))}]{rest}'
        else:
            return None
        if len(spec) > MAX_PAYLOAD_BYTES:
            return None
        return TaskRecord(0, pool, pending, now_ms, max_attempts, spec, timeout_ms, None, None, unknown_fails, priority)

    return record


def _record(pool: str, defaults: Tasks, submission: Submission, now_ms: int) -> TaskRecord:
    warm = defaults.mode is Mode.WARM
    _suits(pool, warm, submission)
    spec: dict[str, Any] = {"pool": pool} if warm else {"pool": pool, "command": submission.command}
    if submission.env:
        spec["env"] = submission.env
    if submission.payload is not None:
        spec["payload"] = submission.payload
    if submission.idempotency_key is not None:
        spec["idempotencyKey"] = submission.idempotency_key
    text = _text(spec)
    if len(text) > MAX_PAYLOAD_BYTES:
        raise Refused(f"a task of {len(text)} bytes, more than {MAX_PAYLOAD_BYTES}", "pass a file's name instead")
    if submission.payload is not None and not warm:
        payload = json.dumps(submission.payload, separators=(",", ":"))
        if len(payload) > MAX_ARGUMENT_BYTES:
            raise Refused(
                f"a payload of {len(payload)} bytes, more than the {MAX_ARGUMENT_BYTES} that one variable can hold",
                "pass a file's name instead",
            )
    due_ms, deadline_ms = _moments(submission, now_ms)
    more: dict[str, Any] = {
        name: value for name, value in (("tenant", submission.tenant), ("key", submission.key)) if value is not None
    }
    if due_ms:
        more["notBefore"] = format_moment(from_ms(due_ms))
    if deadline_ms:
        more["deadline"] = format_moment(from_ms(deadline_ms))
    timeout_s = submission.timeout_s if submission.timeout_s is not None else defaults.timeout_s
    on_unknown = submission.on_unknown or defaults.on_unknown
    record = TaskRecord(
        id=0,
        pool=pool,
        state=TaskState.DELAYED if due_ms else TaskState.PENDING,
        submitted_ms=now_ms,
        max_attempts=submission.max_attempts or defaults.retry.max_attempts,
        spec=_text({**spec, **more}) if more else text,
        timeout_ms=round(timeout_s * 1000) if timeout_s is not None else 0,
        on_unknown_fail=on_unknown is OnUnknown.FAIL,
        priority=submission.priority,
        tenant=submission.tenant and sys.intern(submission.tenant),
        key=submission.key,
        deadline_ms=deadline_ms,
        due_ms=due_ms,
    )
    if submission.idempotency_key is not None:
        record.idempotency_key = submission.idempotency_key
        asked: list[Any] = [text, submission.timeout_s, submission.max_attempts, submission.on_unknown]
        also = submission.model_fields_set & _SINCE_THEN
        if also:  # a task without them has the digest that it had before there were any
            asked.append(submission.model_dump(mode="json", include=also))
        record.digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    return record


def _suits(pool: str, warm: bool, submission: Submission) -> None:
    """Raises Refused for a task that this kind of pool cannot run."""
    if not warm and not submission.command:
        raise Refused(f"a task for pool/{pool} has no command", "each task of a PerTask pool brings its command")
    if warm and (submission.command or submission.env):
        what = "command" if submission.command else "env"
        raise Refused(f"pool/{pool} is Warm: its workers take a payload, no {what}", "leave it out")
    if warm and "payload" not in submission.model_fields_set:
        raise Refused(f"a task for pool/{pool} has no payload", 'give it one: {"payload": ...}, or null')


def _moments(submission: Submission, now_ms: int) -> tuple[int, int]:
    """(not before, deadline); 0: none. Raises Refused for what can never be met."""
    if submission.delay_s is not None and submission.not_before is not None:
        raise Refused("a task has delay or notBefore, not both", "leave one of them out")
    due_ms = to_ms(submission.not_before) if submission.not_before is not None else 0
    if submission.delay_s:
        due_ms = now_ms + round(submission.delay_s * 1000)
    due_ms = due_ms if due_ms > now_ms else 0
    wanted = submission.deadline
    if wanted is None:
        return due_ms, 0
    deadline_ms = to_ms(wanted) if isinstance(wanted, datetime) else now_ms + round(wanted * 1000)
    if deadline_ms <= now_ms:
        raise Refused(f"the deadline {format_moment(from_ms(deadline_ms))} is past", "give it a later one")
    if deadline_ms <= due_ms:
        raise Refused("the deadline is not after the moment before which it must not begin", "give it a later one")
    return due_ms, deadline_ms


_PLAIN = frozenset(Plain.__annotations__)
_PLAIN_WARM = frozenset({"payload", "priority"})

_SINCE_THEN = frozenset({"priority", "tenant", "key", "delay_s", "not_before", "deadline"})

_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode
