"""Keeps log files small, in a thread, once a second; one that does not grow is left alone until the kernel says it does.

grows       looked at every second
silent      a watch that fires once: the first write makes it one that grows (and a look every minute, to be sure)
no watch    to be had, or no file yet: looked at less and less often
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.backends import inotify, logs
from reconciler.backends.inotify import Inotify
from reconciler.backends.launch import task_log, worker_log
from reconciler.clock import Clock
from reconciler.resources.pool import Logs, Pool
from reconciler.resources.worker import Process, Worker
from reconciler.runtime.logindex import LogIndex
from reconciler.runtime.pulse import PERIOD_S, next_second
from reconciler.runtime.queues import Queues
from reconciler.store.base import Store

LONGEST_PERIOD_S = 16.0
SILENT_S = 60.0


@dataclass(slots=True)
class _Watched:
    path: str
    settings: Logs
    size: int = -1
    period_s: float = PERIOD_S
    at: float = 0.0
    number: int = 0
    """Of its watch, when it is silent."""
    failed: str = ""
    lossy: bool = False


class Rotation:
    """Looks after the output files of what runs."""

    def __init__(self, store: Store, queues: Queues, root: Path, clock: Clock) -> None:
        self.index = LogIndex()
        """When what was written."""
        self._store = store
        self._queues = queues
        self._root = root
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._growing: dict[str, _Watched] = {}
        """Those that no watch tells of."""
        self._silent: dict[int, _Watched] = {}
        self._all_at = 0.0
        self._revision = -1
        self._tasks: set[str] = set()
        self._inotify: Inotify | None = None
        with suppress(OSError):  # this user has no more of them: every file is looked at then
            self._inotify = Inotify(self._heard)

    @property
    def problems(self) -> list[str]:
        """What `status` has to say about logs."""
        bad = [watched for watched in self._watched.values() if watched.failed or watched.lossy]
        return [
            watched.failed or f"{self._root / watched.path}: this file system cannot rotate without losing lines"
            for watched in bad
        ]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await next_second()
            await self.look()

    async def look(self) -> None:
        """One look at what may have grown too large."""
        now = self._clock.monotonic()
        self._follow()
        if now >= self._all_at:
            self._all_at = now + SILENT_S
            due = list(self._watched.values())
        else:
            due = [watched for watched in self._growing.values() if watched.at <= now]
        if due:
            await asyncio.to_thread(self._look, due, now)
            for watched in due:
                if watched.number in self._silent:
                    self._growing.pop(watched.path, None)

    def _follow(self) -> None:
        """What may be written to now; the workers are gone through only when something has changed."""
        if self._revision != self._store.revision:
            self._revision = self._store.revision
            settings = {pool.name: pool.spec.template.logs for pool in self._store.all(Pool)}
            workers = {
                worker_log(worker.status.instance): settings[worker.spec.pool]
                for worker in self._store.all(Worker)
                if worker.status.process is Process.UP and worker.spec.pool in settings
            }
            self._replace(self._watched.keys() - self._tasks, workers)
        tasks: dict[str, Logs] = {}
        for queue in self._queues:
            pool = self._store.get(Pool, queue.pool) if queue.running else None
            if pool is not None:
                tasks |= {task_log(record.id, record.claim): pool.spec.template.logs for record in queue.running}
        self._replace(self._tasks, tasks)
        self._tasks = set(tasks)

    def _replace(self, before: Iterable[str], now: Mapping[str, Logs]) -> None:
        for path in [path for path in before if path not in now]:
            self._growing.pop(path, None)
            self._forget(self._watched.pop(path))
            self.index.forget(str(self._root / path))
        for path, settings in now.items():
            watched = self._watched.get(path)
            if watched is None:
                self._watched[path] = self._growing[path] = _Watched(path, settings)
            elif watched.settings is not settings:
                watched.settings, watched.at = settings, 0.0
                self._growing[path] = watched

    def _heard(self, events: Sequence[tuple[int, int]]) -> None:
        """Those were silent until now."""
        for number, mask in events:
            if mask & inotify.OVERFLOW:
                self._all_at = 0.0
            elif (watched := self._silent.pop(number, None)) is not None:
                watched.at = 0.0
                self._growing[watched.path] = watched

    # in a thread, while nothing above but `_heard` runs

    def _look(self, due: list[_Watched], now: float) -> None:
        for watched in due:
            full = str(self._root / watched.path)
            size = -1
            try:
                size, watched.failed = self._rotate(full, watched), ""
            except FileNotFoundError:
                watched.failed = ""
            except OSError as error:
                why = f"{errno.errorcode.get(error.errno or 0)}: {error.strerror}"
                watched.failed = f"{full} cannot be rotated: {why}"
            grows = size != watched.size
            watched.size = size
            if grows:
                watched.period_s = PERIOD_S
            elif not self._watch(full, watched):
                watched.period_s = min(watched.period_s * 2, LONGEST_PERIOD_S)
            watched.at = now + watched.period_s

    def _rotate(self, full: str, watched: _Watched) -> int:
        """How large it was. Raises OSError."""
        facts, settings = os.stat(full), watched.settings
        size = facts.st_size
        if size != watched.size and size:
            self.index.note(full, facts.st_mtime, size)
        if size > settings.max_size_bytes:
            done = logs.rotate(full, settings.max_size_bytes, settings.max_files)
            watched.lossy = done.rotated and not done.lossless
            if done.rotated:
                self.index.rotated(full, os.stat(f"{full}.1").st_size)
        if watched.size == -1 and watched.path.startswith("w/"):
            logs.prune_starts(full, settings.max_files + 1)
        return size

    def _watch(self, full: str, watched: _Watched) -> bool:
        """Has the kernel tell of the next write; false when it cannot, or has come too late."""
        if watched.number in self._silent:
            return True
        if self._inotify is None or watched.size < 0:
            return False
        try:
            watched.number = self._inotify.add(full, inotify.MODIFY | inotify.ONCE)
            self._silent[watched.number] = watched
            if os.stat(full).st_size == watched.size:
                return True
        except OSError:  # it is gone, or the user has no watch left
            pass
        self._forget(watched)
        return False

    def _forget(self, watched: _Watched) -> None:
        if self._silent.pop(watched.number, None) is not None and self._inotify is not None:
            self._inotify.remove(watched.number)
