"""Keeps log files small, in a thread, once a second; a file that does not grow is looked at less and less often."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.backends import logs
from reconciler.backends.launch import task_log, worker_log
from reconciler.clock import Clock
from reconciler.resources.pool import Logs, Pool
from reconciler.resources.worker import Process, Worker
from reconciler.runtime.logindex import LogIndex
from reconciler.runtime.queues import Queues
from reconciler.store.base import Store

PERIOD_S = 1.0
LONGEST_PERIOD_S = 16.0


@dataclass(slots=True)
class _Watched:
    size: int = -1
    period_s: float = PERIOD_S
    at: float = 0.0


class Rotation:
    """Looks after the output files of what runs."""

    def __init__(self, store: Store, queues: Queues, root: Path, clock: Clock) -> None:
        self.problems: list[str] = []
        """What `status` has to say about logs."""
        self.index = LogIndex()
        """When what was written."""
        self._store = store
        self._queues = queues
        self._root = root
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._workers: list[tuple[str, Logs]] = []
        self._revision = -1

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            now = self._clock.monotonic()
            due = [(path, settings) for path, settings in self._running() if self._due(path, now)]
            if due:
                self.problems = await asyncio.to_thread(self._look, due, now)

    def _running(self) -> Iterator[tuple[str, Logs]]:
        """What may be written to now; the list of workers is made anew only when something has changed."""
        if self._revision != self._store.revision:
            self._revision = self._store.revision
            settings = {pool.name: pool.spec.template.logs for pool in self._store.all(Pool)}
            self._workers = [
                (worker_log(worker.status.instance), settings[worker.spec.pool])
                for worker in self._store.all(Worker)
                if worker.status.process is Process.UP and worker.spec.pool in settings
            ]
            alive = {path for path, _ in self._workers}
            for path in [path for path in self._watched if path not in alive and path.startswith("w/")]:
                del self._watched[path]
                self.index.forget(str(self._root / path))
        yield from self._workers
        alive = set()
        for queue in self._queues:
            pool = self._store.get(Pool, queue.pool)
            if pool is not None:
                for record in queue.running:
                    path = task_log(record.id, record.claim)
                    alive.add(path)
                    yield path, pool.spec.template.logs
        for path in [path for path in self._watched if path.startswith("t/") and path not in alive]:
            del self._watched[path]
            self.index.forget(str(self._root / path))

    def _due(self, path: str, now: float) -> bool:
        watched = self._watched.get(path)
        if watched is None:
            self._watched[path] = _Watched(at=now + PERIOD_S)
            return True
        return watched.at <= now

    def _look(self, due: list[tuple[str, Logs]], now: float) -> list[str]:
        """In a thread: rotates what has grown too large; returns what went wrong."""
        problems = []
        for path, settings in due:
            full = str(self._root / path)
            watched = self._watched.get(path) or _Watched()
            try:
                facts = os.stat(full)
                size = facts.st_size
                if size != watched.size and size:
                    self.index.note(full, facts.st_mtime, size)
                if size > settings.max_size_bytes:
                    done = logs.rotate(full, settings.max_size_bytes, settings.max_files)
                    if done.rotated:
                        self.index.rotated(full, os.stat(f"{full}.1").st_size)
                    if done.rotated and not done.lossless:
                        problems.append(f"{full}: this file system cannot rotate without losing lines")
                if watched.size == -1 and path.startswith("w/"):
                    logs.prune_starts(full, settings.max_files + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{full} cannot be rotated: {errno.errorcode.get(error.errno or 0)}: {error.strerror}")
                continue
            watched.period_s = min(watched.period_s * 2, LONGEST_PERIOD_S) if size == watched.size else PERIOD_S
            watched.size, watched.at = size, now + watched.period_s
        return problems
