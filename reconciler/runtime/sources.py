"""A directory of manifests is kept applied: whole or not at all, the last good set otherwise.

change on disk (a hint) | poll every 30 s | SIGHUP
  -> 200 ms of quiet -> scan, digest -> unchanged? nothing
  -> load -> any problem? keep what is applied, one event per digest
  -> apply -> the store
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection
from datetime import datetime

from reconciler.clock import Clock
from reconciler.errors import ReconcilerError
from reconciler.loading import apply as applying
from reconciler.loading import files, validate
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.resources.units import format_moment
from reconciler.store.base import Store

log = logging.getLogger("reconciler")

POLL_S = 30.0
QUIET_S = 0.2
LONGEST_WAIT_S = 2.0
ARMED_S = 0.5


class DirectorySource:
    """One directory (or one file) of manifests."""

    def __init__(
        self,
        root: str,
        prune: bool,
        store: Store,
        clock: Clock,
        committed: Callable[[], asyncio.Future[None]],
        others: Collection[str] = (),
    ) -> None:
        self.root = root
        self.last_attempted = ""
        self.last_applied = ""
        self.last_applied_at: datetime | None = None
        self.error = ""
        self.first = asyncio.Event()
        """Set when it has been looked at once, whatever came of it."""
        self.prune = prune
        self._read = {*others, root}
        self._store = store
        self._clock = clock
        self._committed = committed
        self._poke = asyncio.Event()

    def rescan(self) -> None:
        """Looks now, also when the digest is unchanged."""
        self.last_attempted = ""
        self._poke.set()

    def report(self) -> dict[str, object]:
        """As `status` shows it."""
        found: dict[str, object] = {
            "path": self.root,
            "lastAttempted": self.last_attempted,
            "lastApplied": self.last_applied,
            "error": self.error,
        }
        if self.last_applied_at is not None:
            found["lastAppliedAt"] = format_moment(self.last_applied_at)
        return found

    async def run(self) -> None:
        """Keeps it applied until cancelled."""
        async with asyncio.TaskGroup() as group:
            await self._look()
            self.first.set()
            group.create_task(self._watch())
            while True:
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._poke.wait()
                    await self._quiet()
                except TimeoutError:
                    pass
                await self._look()

    async def _quiet(self) -> None:
        """Returns after 200 ms without a hint, or 2 s after the first."""
        until = self._clock.monotonic() + LONGEST_WAIT_S
        while self._poke.is_set() and self._clock.monotonic() < until:
            self._poke.clear()
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._poke.wait()
            except TimeoutError:
                return

    async def _watch(self) -> None:
        """Turns changes on disk into hints. A directory that went away and came back is watched anew by its inode."""
        import watchfiles  # takes 40 ms: after the first look

        while True:
            whole = os.path.isdir(self.root)
            directory = self.root if whole else os.path.dirname(self.root)
            identity = _identity(directory)
            # what changed before the watch stood has made no event
            asyncio.get_running_loop().call_later(ARMED_S, self._poke.set)
            stop = asyncio.Event()
            try:
                async for changes in watchfiles.awatch(
                    directory,
                    recursive=whole,
                    debounce=200,
                    step=200,
                    stop_event=stop,
                    yield_on_timeout=True,
                    rust_timeout=5000,
                ):
                    if changes:
                        self._poke.set()
                    elif _identity(directory) != identity:
                        self._poke.set()
                        break
            except (
                OSError,
                RuntimeError,
            ) as error:  # RuntimeError: the watcher's own, a name that is not UTF-8 for one
                log.warning("%s cannot be watched (%s): it is looked at every %d s", directory, error, POLL_S)
                await asyncio.sleep(POLL_S)
            while _identity(directory) is None:
                await asyncio.sleep(1)

    async def _look(self) -> None:
        """Scans, and applies what is new and valid."""
        scan = await asyncio.to_thread(files.scan, self.root)
        if scan.digest == self.last_attempted:
            return
        self.last_attempted = scan.digest
        loaded = await asyncio.to_thread(validate.load, scan.files, self.root, scan.digest)
        problems = [p for p in (*scan.problems, *loaded.problems) if p.severity == "error"]
        now = self._clock.now()
        key = Key("Source", self.root)
        if problems:
            first = validate.render_concise(problems[0])
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            self.error = first + more
            log.error(
                "%s is not valid, what runs stays as it is:\n%s",
                self.root,
                "\n".join(map(validate.render_concise, problems)),
            )
            self._store.add_event(event(key, "ManifestInvalid", self.error, now, warning=True))
            return
        try:
            applied = applying.apply(self._store, loaded.objects, self.root, self.prune, "source", now, self._read)
            await self._committed()
        except ReconcilerError as error:
            self.error = str(error)
            self.last_attempted = f"{scan.digest}!"  # looked at again with the next poll
            log.error("%s cannot be applied: %s", self.root, error)
            self._store.add_event(event(key, "ApplyFailed", self.error, now, warning=True))
            return
        self.error, self.last_applied, self.last_applied_at = "", scan.digest, now
        for change in applied:
            if change.word != "unchanged":
                log.info("%s %s (%s)", change.key, change.word, self.root)


def _identity(directory: str) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino
