"""Which tasks a pool takes."""

from __future__ import annotations

import json
from dataclasses import astuple
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from reconciler.controllers import intake
from reconciler.controllers.intake import admit, again, retry_key, take
from reconciler.errors import Conflict, NotFound, QueueFull, ReconcilerError, Refused, Unavailable
from reconciler.resources.meta import Intent, Metadata, Wish
from reconciler.resources.pool import Pool, PoolSpec, Tasks
from reconciler.resources.task import MAX_PAYLOAD_BYTES, Plain, Submission, TaskState
from reconciler.store.base import TaskRecord

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def batch(tasks: dict[str, Any] | None = None, **metadata: Any) -> Pool:
    spec = PoolSpec.model_validate({"replicas": 1, "tasks": {"queueLimit": 10} if tasks is None else tasks})
    return Pool(metadata=Metadata(name="batch", **metadata), spec=spec)


def submission(*command: str, **fields: Any) -> Submission:
    return Submission.model_validate({"command": list(command) or ["true"], **fields})


def taken(*submissions: Submission, known: dict[str, TaskRecord] | None = None) -> Any:
    numbers = count(1)
    defaults = admit("batch", batch({"timeout": "5s", "retry": {"maxAttempts": 4}}), 1, 0, False, "", NOW)
    by_key = lambda pool, key: (known or {}).get(key)  # noqa: E731
    return take("batch", defaults, submissions, by_key, lambda: next(numbers), 1_000)


@pytest.mark.parametrize(
    ("pool", "count_", "waiting", "stopping", "degraded", "why"),
    [
        (None, 1, 0, False, "", NotFound),
        (Pool(metadata=Metadata(name="web"), spec=PoolSpec.model_validate({"replicas": 1})), 1, 0, False, "", Refused),
        (batch(), 1, 0, True, "", Unavailable),
        (batch(), 1, 0, False, "the disk is full", Unavailable),
        (batch(), 3, 8, False, "", QueueFull),
    ],
    ids=["no such pool", "a pool of workers", "stopping", "nothing can be made durable", "the queue is full"],
)
def test_what_cannot_be_taken_is_refused_with_its_reason(
    pool: Pool | None, count_: int, waiting: int, stopping: bool, degraded: str, why: type[ReconcilerError]
) -> None:
    with pytest.raises(why):
        admit("batch", pool, count_, waiting, stopping, degraded, NOW)
    assert admit("batch", batch(), 2, 8, False, "", NOW).queue_limit == 10


def test_a_record_has_what_was_submitted_and_the_rest_from_its_pool() -> None:
    plain, own = taken(submission("true"), submission("make", "all", timeout="1s", maxAttempts=1)).answers
    assert (plain.id, plain.timeout_ms, plain.max_attempts) == (1, 5_000, 4)
    assert (own.id, own.timeout_ms, own.max_attempts) == (2, 1_000, 1)
    assert own.spec == '{"command":["make","all"],"pool":"batch"}'


@pytest.mark.parametrize("word", ["", "a b", '"', "\\", "/", "\n\t\r\b\f\x01\x1f\x7f", "\u00e9\u2028\U0001f600"])
@pytest.mark.parametrize("tasks", [{}, {"timeout": "5s", "retry": {"maxAttempts": 4}, "onUnknown": "Fail"}])
def test_a_plain_task_has_the_record_that_the_long_way_makes(word: str, tasks: dict[str, Any]) -> None:
    defaults = admit("batch", batch(tasks), 1, 0, False, "", NOW)
    for fields in ({}, {"priority": 0}):
        given = submission("echo", word, **fields)
        short = intake._plain_ones("batch", defaults, 1_000)(given)
        assert short is not None
        assert astuple(short) == astuple(intake._record("batch", defaults, given, 1_000))


@pytest.mark.parametrize(
    "payload", [0, False, "", "a\n\u2028", [], {"b": 1.5, "a": [None, "é"]}, {"pool": ',"pool":"batch"}'}]
)
@pytest.mark.parametrize("tasks", [{}, {"timeout": "5s", "retry": {"maxAttempts": 4}, "onUnknown": "Fail"}])
def test_a_plain_payload_has_the_record_that_the_long_way_makes(payload: Any, tasks: dict[str, Any]) -> None:
    defaults = Tasks.model_validate({"mode": "Warm", **tasks})
    for fields in ({}, {"priority": 0}):
        given = Submission.model_validate({"payload": payload, **fields})
        short = intake._plain_ones("batch", defaults, 1_000)(given)
        assert short is not None
        assert astuple(short) == astuple(intake._record("batch", defaults, given, 1_000))
    for more in ({"tenant": "ads"}, {"key": "k"}, {"deadline": "1m"}, {"command": ["true"]}, {"payload": None}):
        other = Submission.model_validate({"payload": payload, **more})
        assert intake._plain_ones("batch", defaults, 1_000)(other) is None


ANY = TypeAdapter(Submission)
PLAIN = TypeAdapter(Plain)


@pytest.mark.parametrize(
    "text",
    [
        '{"command":["a"]}',
        '{"command":["a","\\u00e9\\ud83d\\ude00","\\n"],"priority":0}',
        '{"priority":255,"command":["b"],"command":["c"]}',
        '{"command":[]}',
        '{"command":["a\\u0000"]}',
        '{"command":["\\ud800"]}',
        '{"command":"a"}',
        '{"command":[1]}',
        '{"command":null}',
        '{"command":["a"],"priority":256}',
        '{"command":["a"],"priority":true}',
        '{"command":["a"],"priority":1.0}',
        '{"command":["a"],"priority":null}',
        '{"command":["a"],"Priority":1}',
        '{"command":["' + "x" * 200_000 + '"]}',
        "[]",
        "7",
    ],
)
def test_a_plain_task_is_taken_or_refused_as_any_other_is(text: str) -> None:
    defaults = admit("batch", batch({}), 1, 0, False, "", NOW)
    plain = intake._plain_ones("batch", defaults, 1_000)
    try:
        expected = plain(ANY.validate_json(text))
    except ValidationError:
        with pytest.raises(ValidationError):
            PLAIN.validate_json(text)
    else:
        found = plain(PLAIN.validate_json(text))
        assert found is not None and expected is not None and astuple(found) == astuple(expected)


def test_a_plain_task_too_long_or_for_a_warm_pool_is_refused_in_the_usual_words() -> None:
    defaults = admit("batch", batch({}), 1, 0, False, "", NOW)
    long = Plain(command=["x" * 100_000] * (MAX_PAYLOAD_BYTES // 100_000 + 1))
    with pytest.raises(Refused, match="bytes, more than"):
        take("batch", defaults, [long], lambda pool, key: None, lambda: 1, 1_000)
    warm = admit("batch", batch({"mode": "Warm"}), 1, 0, False, "", NOW)
    with pytest.raises(Refused, match="its workers take a payload, no command"):
        take("batch", warm, [Plain(command=["a"])], lambda pool, key: None, lambda: 1, 1_000)


def test_a_task_that_says_more_than_a_command_and_a_priority_goes_the_long_way() -> None:
    defaults = admit("batch", batch({}), 1, 0, False, "", NOW)
    plain = intake._plain_ones("batch", defaults, 1_000)
    for fields in ({"tenant": "ads"}, {"timeout": "1s"}, {"idempotencyKey": "k"}, {"payload": None}, {"env": {}}):
        assert plain(submission("true", **fields)) is None
    assert plain(Submission.model_validate({"priority": 3})) is None


def test_the_same_key_and_content_is_the_same_task_within_a_request_and_after_it() -> None:
    first = taken(submission("a", idempotencyKey="k"), submission("a", idempotencyKey="k"), submission("b"))
    assert first.answers[0] is first.answers[1]
    assert [record.id for record in first.new] == [1, 2]
    again = taken(submission("a", idempotencyKey="k"), known={"k": first.answers[0]})
    assert again.answers == [first.answers[0]] and again.new == []


def test_a_key_that_another_task_has_refuses_everything_before_a_number_is_given() -> None:
    first = taken(submission("a", idempotencyKey="k")).answers[0]
    with pytest.raises(Conflict, match="task/1, which is another task"):
        taken(submission("c"), submission("b", idempotencyKey="k"), known={"k": first})
    with pytest.raises(Conflict, match="another task of this request"):
        taken(submission("a", idempotencyKey="n"), submission("b", idempotencyKey="n"))


def test_a_task_that_is_too_large_is_refused() -> None:
    with pytest.raises(Refused, match="bytes, more than"):
        taken(submission("echo", *["x" * 100_000] * (MAX_PAYLOAD_BYTES // 100_000 + 1)))


def test_priority_tenant_key_and_moments_are_taken_over() -> None:
    task = submission(priority=200, tenant="ads", key="user-7", delay="2s", deadline="10s")
    (record,) = taken(task).answers
    assert (record.priority, record.tenant, record.key) == (200, "ads", "user-7")
    assert (record.state, record.due_ms, record.deadline_ms) == (TaskState.DELAYED, 3_000, 11_000)
    assert '"notBefore":"1970-01-01T00:00:03.000Z"' in str(record.spec)
    (plain,) = taken(submission(notBefore="1970-01-01T00:00:00Z")).answers
    assert (plain.state, plain.due_ms) == (TaskState.PENDING, 0)
    (exact,) = taken(submission(deadline="1970-01-01T00:00:02Z")).answers
    assert exact.deadline_ms == 2_000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"deadline": "1970-01-01T00:00:00.500Z"}, "is past"),
        ({"deadline": "0s"}, "is past"),
        ({"deadline": "5s", "delay": "5s"}, "not after"),
        ({"delay": "5s", "notBefore": "1970-01-01T00:00:09Z"}, "not both"),
    ],
)
def test_fault_T8_a_deadline_that_cannot_be_met_is_refused_at_once(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        taken(submission(**fields))


def test_a_repeated_submission_with_a_delay_is_the_same_task() -> None:
    first, second = taken(
        submission(idempotencyKey="k", delay="2s"), submission(idempotencyKey="k", delay="2s")
    ).answers
    assert first is second
    with pytest.raises(Conflict):
        taken(submission(idempotencyKey="k", delay="2s"), submission(idempotencyKey="k", delay="3s"))


def drained(by: str = "user me") -> Pool:
    return batch(intent=Intent(wish=Wish.DRAINING, actor=by, reason="the host is sold", at=NOW))


def test_a_drained_pool_takes_no_new_tasks_and_says_who_drains_it() -> None:
    with pytest.raises(Refused, match="user me drains it: the host is sold"):
        admit("batch", drained(), 1, 0, False, "", NOW)


def ended_task(state: TaskState = TaskState.DEAD_LETTERED, **fields: Any) -> TaskRecord:
    (record,) = taken(submission("make", priority=7, tenant="ads", idempotencyKey="once", **fields)).answers
    record.state, record.attempts, record.message = state, 3, "exit code 1"
    return record


def test_a_retry_is_a_new_task_that_names_the_old_one() -> None:
    old = ended_task(deadline="1s")
    new = again(old, lambda: 99, 1_000 + 5_000)
    assert (new.id, new.state, new.attempts, new.message) == (99, TaskState.PENDING, 0, "")
    assert (new.priority, new.tenant, new.max_attempts, new.deadline_ms) == (7, "ads", 4, 0)
    assert json.loads(str(new.spec)) == {"command": ["make"], "pool": "batch", "tenant": "ads", "retryOf": "1"}
    assert new.idempotency_key == retry_key(old.id) != old.idempotency_key
    assert again(ended_task(deadline="1h"), lambda: 99, 2_000).deadline_ms == 1_000 + 3_600_000


@pytest.mark.parametrize("state", [TaskState.SUCCEEDED, TaskState.RUNNING, TaskState.PENDING])
def test_what_has_succeeded_or_not_ended_is_not_retried(state: TaskState) -> None:
    with pytest.raises(Refused, match=f"task/1 is {state}"):
        again(ended_task(state), lambda: 99, 0)


def test_fault_T10_a_payload_that_no_process_could_be_handed_is_refused_and_one_at_the_limit_is_taken() -> None:
    with pytest.raises(Refused, match=f"more than {MAX_PAYLOAD_BYTES}"):
        taken(submission(payload="x" * MAX_PAYLOAD_BYTES))
    with pytest.raises(Refused, match=r"more than the .* that one variable can hold"):
        taken(submission(payload="x" * (MAX_PAYLOAD_BYTES - 1000)))
    assert len(taken(submission(payload="x" * 100_000)).new) == 1
