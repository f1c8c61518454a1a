"""Files that a pool watches: another content, and its workers are restarted one after another, or told to reload.

    every second: stat -> differs from the last look? -> the same twice? -> read, digest -> differs from status.watched? -> act

Links are followed, so a `current` that is turned elsewhere counts. A file that is missing says nothing: it is being
replaced. What changed while no daemon ran counts too: the digests are in the pool's status.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence

from reconciler.clock import Clock
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.resources.pool import OnChange, Pool, WatchedFile
from reconciler.resources.worker import Process, Worker
from reconciler.runtime.pulse import next_second
from reconciler.store.base import Store

log = logging.getLogger("reconciler")

_CHUNK_BYTES = 1 << 20

Mark = tuple[int, ...]
"""What stat says of a file; no change of content leaves it the same, unless somebody sets the clock back."""


class WatchedFiles:
    """All files that all pools watch."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        reload: Callable[[Pool, Sequence[Worker]], Awaitable[dict[str, str]]],
        wake: Callable[[], None],
    ) -> None:
        """`wake` has what was staged made durable."""
        self._store = store
        self._clock = clock
        self._reload = reload
        self._wake = wake
        self._seen: dict[str, Mark] = {}
        """As of the last look."""
        self._read: dict[str, tuple[Mark, str]] = {}
        """The digest of each path, and what stat said when it was made."""
        self._complained: dict[str, str] = {}
        self._revision = -1

    async def run(self) -> None:
        """Until cancelled."""
        pools: list[Pool] = []
        paths: list[str] = []
        while True:
            if self._revision != self._store.revision:
                self._revision = self._store.revision
                pools = [pool for pool in self._store.all(Pool) if pool.spec.template.watch_files]
                paths = sorted({file.path for pool in pools for file in pool.spec.template.watch_files})
            if pools:
                digests = await asyncio.to_thread(self._look, paths)
                for pool in pools:
                    await self._compare(pool.name, digests)
            await next_second()

    def _look(self, paths: Sequence[str]) -> dict[str, str]:
        """In a thread: the digests of what has settled."""
        found = {}
        for path in paths:
            try:
                mark = _mark(path)
                settled, self._seen[path] = self._seen.get(path) == mark, mark
                known = self._read.get(path)
                if known is None or (known[0] != mark and settled):
                    self._read[path] = known = (mark, self._digest(path))
                found[path] = known[1]
                self._complained.pop(path, None)
            except FileNotFoundError:
                continue
            except OSError as error:
                if self._complained.get(path) != str(error):
                    log.warning("%s cannot be watched: %s", path, error.strerror)
                self._complained[path] = str(error)
        return found

    def _digest(self, path: str) -> str:
        # keyed: what is watched may be a secret, and a plain digest would let a short one be guessed
        digest = hashlib.blake2b(key=self._store.id.encode()[:64], digest_size=8)
        with open(path, "rb", buffering=0) as file:
            while block := file.read(_CHUNK_BYTES):
                digest.update(block)
        return digest.hexdigest()

    async def _compare(self, name: str, digests: dict[str, str]) -> None:
        pool = self._store.get(Pool, name)  # as it is now
        if pool is None or pool.metadata.deleted_at is not None:
            return
        files = {file.path: file for file in pool.spec.template.watch_files}
        known = {path: digest for path, digest in pool.status.watched.items() if path in files}
        now = {**known, **{path: digests[path] for path in files if path in digests}}
        changed = [files[path] for path in now if path in known and known[path] != now[path]]
        if now == pool.status.watched:
            return
        restart = any(file.action is OnChange.RESTART for file in changed)
        self._store.set_status(
            pool.key, pool.status.changed(watched=now, restarts_asked=pool.status.restarts_asked + restart)
        )
        for file in changed:
            self._say(pool.key, file)
        self._wake()
        if changed and not restart:
            running = [w for w in self._store.owned_by(pool.key, Worker) if w.status.process is Process.UP]
            for worker, problem in (await self._reload(pool, running)).items():
                if problem:
                    message = f"it could not be reloaded: {problem}"
                    happened = event(Key("Worker", worker), "ReloadFailed", message, self._clock.now(), warning=True)
                    self._store.add_event(happened)
            self._wake()

    def _say(self, key: Key, file: WatchedFile) -> None:
        what = "its workers are restarted, one after another" if file.action is OnChange.RESTART else "they reload"
        log.info("%s has changed (%s): %s", file.path, key, what)
        self._store.add_event(event(key, "FileChanged", f"{file.path} has changed: {what}", self._clock.now()))


def _mark(path: str) -> Mark:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
