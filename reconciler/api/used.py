"""What is joined into an object when it is read, because it changes by itself: CPU, memory, threads."""

from __future__ import annotations

from reconciler.api import views
from reconciler.api.base import Usage
from reconciler.resources.meta import Object
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker
from reconciler.store.base import TaskRecord


def object_(obj: Object, usage: Usage) -> str:
    """The object's JSON with what it uses, as far as that is known."""
    pid = (obj.status.pid or -1) if isinstance(obj, Worker) else 0
    return views.with_usage(views.object_(obj), usage.of(str(obj.key), pid))


def task(record: TaskRecord, usage: Usage) -> str:
    """The task's JSON, the same way."""
    running = record.state is TaskState.RUNNING and record.pid
    return views.with_usage(views.task(record), usage.of(f"task/{record.id}", record.pid) if running else None)


def history(obj: Object, usage: Usage) -> bytes:
    """The last samples of a pool, or of a worker's present process."""
    instance = obj.status.instance if isinstance(obj, Worker) else ""
    return views.usages(usage.history(str(obj.key), instance))
