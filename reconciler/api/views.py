"""How things look outside: bytes of JSON from objects and task records. Pure.

A task is written out by hand from its record: pydantic would cost ten times as much, and tasks come by the hundred.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from reconciler.errors import ReconcilerError
from reconciler.monitoring.usage import Sample
from reconciler.policies import fault
from reconciler.resources.meta import Object
from reconciler.resources.task import TaskState
from reconciler.resources.units import format_duration, format_moment, from_ms
from reconciler.resources.worker import Reason
from reconciler.store.base import Change, TaskRecord

encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode

_WAITING = (TaskState.DELAYED, TaskState.RETRYING)


def task(record: TaskRecord) -> str:
    """A Task as JSON. The record carries its spec."""
    submitted = moment(record.submitted_ms)
    parts = [f'"state":"{record.state.value}","attempts":{record.attempts}']
    if record.exit_code is not None:
        parts.append(f'"exitCode":{record.exit_code}')
    if record.signal is not None:
        parts.append(f'"signal":{encode(record.signal)}')
    if record.reason is not None:
        parts.append(f'"reason":{encode(record.reason)}')
        found = fault.of(Reason(record.reason), record.exit_code)
        if found is not None:
            parts.append(f'"type":"{found.type}"')
    parts.append(f'"message":{encode(record.message)}' if record.message else '"message":""')
    if record.slot >= 0:
        parts.append(f'"worker":"{record.pool}-{record.slot}"')
    if record.pid:
        parts.append(f'"pid":{record.pid}')
    parts.append(f'"submittedAt":"{submitted}"')
    if record.started_ms:
        parts.append(f'"startedAt":"{moment(record.started_ms)}"')
    if record.finished_ms:
        parts.append(f'"finishedAt":"{moment(record.finished_ms)}"')
    if record.result is not None:
        parts.append(f'"result":{record.result}')
    if record.due_ms and record.state in _WAITING:
        parts.append(f'"nextAttemptAt":"{moment(record.due_ms)}"')
    return (
        f'{{"apiVersion":"reconciler/v1","kind":"Task","metadata":{{"name":"{record.id}","labels":{{}},'
        f'"annotations":{{}},"uid":"task-{record.id}","generation":1,"resourceVersion":0,"createdAt":"{submitted}"}},'
        f'"spec":{_spec(record)},"status":{{{",".join(parts)}}}}}'
    )


def _spec(record: TaskRecord) -> str:
    """What was submitted, with the settings that the pool has filled in."""
    assert record.spec is not None
    timeout = f'"timeout":"{format_duration(record.timeout_ms / 1000)}",' if record.timeout_ms else ""
    on_unknown = "Fail" if record.on_unknown_fail else "Retry"
    return f'{record.spec[:-1]},"priority":{record.priority},{timeout}"maxAttempts":{record.max_attempts},"onUnknown":"{on_unknown}"}}'


def tasks(records: Iterable[TaskRecord]) -> bytes:
    """A bare list of Tasks: the answer to a list of submissions."""
    return f"[{','.join(map(task, records))}]".encode()


def names(records: Iterable[TaskRecord]) -> bytes:
    """A bare list of the names of tasks: for who submits by the thousand and wants no more."""
    listed = '","'.join([str(record.id) for record in records])
    return f'["{listed}"]'.encode() if listed else b"[]"


def objects(items: Iterable[str], revision: int, after: str = "") -> bytes:
    """A List of what is JSON already; `after` is where the next page begins, if there is one."""
    head = {"resourceVersion": str(revision)} | ({"continue": after} if after else {})
    return f'{{"kind":"List","metadata":{encode(head)},"items":[{",".join(items)}]}}'.encode()


def object_(obj: Object) -> str:
    """Any stored object."""
    return obj.model_dump_json(by_alias=True, exclude_none=True)


def with_usage(text: str, sample: Sample | None) -> str:
    """The object with what it uses at the end of its status, which is its last part and never empty."""
    return text if sample is None else f"{text[:-2]},{usage(sample)[1:]}}}"


def usage(sample: Sample) -> str:
    """One sample."""
    cpu = "" if sample.cpu_percent is None else f'"cpuPercent":{sample.cpu_percent:.1f},'
    stopped = '"stopped":true,' if sample.stopped else ""
    return (
        f'{{{cpu}"memoryBytes":{sample.memory_bytes},"virtualMemoryBytes":{sample.virtual_memory_bytes},'
        f'"threads":{sample.threads},"openFiles":{sample.open_files},"processes":{sample.processes},'
        f'{stopped}"sampledAt":"{format_moment(sample.at)}"}}'
    )


def usages(samples: Iterable[Sample]) -> bytes:
    """A history, oldest first."""
    return f'{{"samples":[{",".join(map(usage, samples))}]}}'.encode()


def change(item: Change) -> bytes:
    """One event of a watch, as a server-sent event."""
    return f'data: {{"type":"{item.type}","object":{object_(item.object)}}}\n\n'.encode()


def watch_error(error: ReconcilerError) -> bytes:
    """The last event of a watch that cannot go on."""
    return f'data: {{"type":"ERROR","object":{encode(problem(error))}}}\n\n'.encode()


def problem(error: ReconcilerError, **more: Any) -> Mapping[str, Any]:
    """An error as clients see it."""
    return {"error": {"reason": error.reason, "message": error.message, "help": error.help, **more}}


def moment(ms: int) -> str:
    """RFC 3339 with milliseconds."""
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}Z"


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    """Up to the second: what is shown together mostly happened together."""
    return format_moment(from_ms(second * 1000))[:-5]
