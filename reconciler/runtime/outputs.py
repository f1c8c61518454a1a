"""Where the output of workers and tasks stands, and what of it was written when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.api.base import LogFile
from reconciler.backends import logs
from reconciler.backends.launch import task_log, worker_log
from reconciler.errors import NotFound
from reconciler.resources.meta import Key
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Process, Worker
from reconciler.runtime.logindex import LogIndex
from reconciler.runtime.queues import Queues
from reconciler.store.base import Store


class Outputs:
    """The files below one directory."""

    def __init__(self, root: Path, store: Store, queues: Queues, index: LogIndex) -> None:
        self._root = root
        self._store = store
        self._queues = queues
        self._index = index

    def of(self, key: Key, previous: bool = False) -> list[LogFile]:
        """The files of a worker's start or a task's try, oldest first; `previous`: of the one before. Raises NotFound."""
        return self._of_task(key, previous) if key.kind == "Task" else self._of_worker(key, previous)

    def written_before(self, files: Sequence[LogFile], since_s: float) -> dict[str, int]:
        """How many bytes of each were written before that moment, as far as is known."""
        return self._index.skip([file.path for file in files], since_s)

    def said_ready(self, instance: str) -> bool:
        """Whether this start of a worker has said on its descriptor that it is ready."""
        return logs.said_ready(str(self._root / worker_log(instance)))

    def _of_task(self, key: Key, previous: bool) -> list[LogFile]:
        live = self._queues.find(int(key.name))
        record = live[1] if live is not None else self._store.tasks.get(int(key.name))
        if record is None:
            raise NotFound(f"there is no {key}")
        running = record.state is TaskState.RUNNING
        attempt = record.claim if running else record.attempts
        attempt = max(0, attempt - 1) if previous else attempt
        return self._files(task_log(record.id, attempt) if attempt else "", running and not previous)

    def _of_worker(self, key: Key, previous: bool) -> list[LogFile]:
        worker = self._store.get(Worker, key.name)
        if worker is None:
            raise NotFound(f"there is no {key}")
        instance = worker.status.instance
        if previous:
            uid, _, start = instance.partition(".")
            instance = f"{uid}.{int(start or 0) - 1}"
        running = worker.status.process is Process.UP and not previous
        return self._files(worker_log(instance) if instance else "", running)

    def _files(self, path: str, running: bool) -> list[LogFile]:
        parts = logs.parts(str(self._root / path)) if path else []
        return [LogFile(part, running and part == parts[-1]) for part in parts]
