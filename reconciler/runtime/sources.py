"""A directory of manifests is kept applied: whole or not at all, the last good set otherwise.

    change on disk (a hint) | poll every 30 s | SIGHUP | source sync
      -> scan -> 200 ms of quiet -> scan again: the same, and nobody writes?      else once more
      -> the digest is that of the last attempt: nothing
      -> load -> any problem? keep what is applied, one event a digest
      -> guard -> apply -> the store

What it says of itself stands in the store, as the Source's status: `suspend`, the last good set and what is refused
outlive the controller.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from reconciler.clock import Clock
from reconciler.errors import ReconcilerError, Refused, Unavailable
from reconciler.loading import apply as applying
from reconciler.loading import files, guard, render, validate
from reconciler.loading.files import Scan
from reconciler.loading.values import UNUSED
from reconciler.loading.variant import Tree, Wanted
from reconciler.resources.event import event
from reconciler.resources.meta import Metadata
from reconciler.resources.source import Source, SourceSpec, SourceStatus, source_name
from reconciler.runtime.watching import GONE, identity, watch
from reconciler.store.base import Store

T = TypeVar("T")

log = logging.getLogger("reconciler")

POLL_S = 30.0
QUIET_S = 0.2
LONGEST_WAIT_S = 2.0
SETTLE_S = 0.2
"""A content counts when two scans that far apart have found it."""
PATIENCE_S = 10.0
"""What changes or is being written for longer is an error; it is looked at again with the next hint or poll."""
READ_S = 10.0
"""Reading that takes longer hangs: a network file system that is gone."""


class _NotNow(ReconcilerError):
    """It cannot be read as it stands at one moment."""


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
        scan: Callable[[str], Scan] = files.scan_still,
        poll_s: float = POLL_S,
        read_s: float = READ_S,
        wanted: Wanted = Wanted(),  # noqa: B008,
    ) -> None:
        self.root = root
        self.name = source_name(root)
        self.prune = prune
        self.first = asyncio.Event()
        """Set when it has been looked at once, whatever came of it."""
        self._siblings = {*others, root}
        self._store = store
        self._clock = clock
        self._committed = committed
        self._scan = scan
        self._poll_s = poll_s
        self._read_s = read_s
        self.wanted = wanted
        self._loaded: validate.Cache = {}
        self._poke = asyncio.Event()
        self._looking = asyncio.Lock()
        self._reading: asyncio.Future[Scan] | None = None
        self._seen = ""
        """The digest of the last attempt of this controller; empty: it is attempted whatever it is."""
        self._failures = 0
        self._retry_at: datetime | None = None

    # what others see

    @property
    def resource(self) -> Source:
        """Spec and status as they stand in the store."""
        return self._store.get(Source, self.name) or self._new()

    @property
    def error(self) -> str:
        """Why what stands there is not in force; empty when it is."""
        return self.resource.status.error

    @property
    def last_attempted(self) -> str:
        return self.resource.status.last_attempted

    @property
    def last_applied(self) -> str:
        return self.resource.status.last_applied

    def report(self) -> dict[str, Any]:
        """As `status` shows it."""
        found = self.resource
        status = found.status.to_json()
        status.pop("identity", None)
        return {"name": self.name, "path": self.root, "prune": self.prune, "suspended": found.spec.suspended, **status}

    # what is asked of it

    def rescan(self) -> None:
        """Looks soon, also when the digest is unchanged."""
        self._seen = ""
        self._poke.set()

    async def sync(self, confirm: bool = False) -> None:
        """Looks now, and returns when that is done. `confirm`: what the last attempt refused may be done.

        Raises Refused while it is suspended.
        """
        async with self._looking:
            if self.resource.spec.suspended:
                raise Refused(f"source {self.root} is suspended", f"reconciler source resume {self.name}")
            confirmed = self.last_attempted if confirm and self.resource.status.refused else ""
            self._seen, self._failures = "", 0
            await self._look(confirmed=confirmed)

    # its life

    def _declare(self) -> None:
        """Its object, as `up` says it; whether it is suspended stays as people have left it."""
        old = self._store.get(Source, self.name)
        if old is None:
            self._store.create(self._new())
        elif old.spec.prune != self.prune:
            self._store.update(old.changed(spec=old.spec.changed(prune=self.prune)))

    def _new(self) -> Source:
        return Source(metadata=Metadata(name=self.name), spec=SourceSpec(path=self.root, prune=self.prune))

    async def run(self) -> None:
        """Keeps it applied until cancelled."""
        self._declare()
        async with asyncio.TaskGroup() as group:
            async with self._looking:
                await self._look(at_start=True)
            self.first.set()
            group.create_task(watch(self.root, self._poke.set))
            while True:
                before = await self._hint()
                async with self._looking:
                    await self._look(before)

    async def _hint(self) -> Scan | None:
        """Returns after a hint and the quiet that follows it, with what stood there before the quiet; or when it is time."""
        wait_s = self._poll_s
        if self._retry_at is not None:
            wait_s = min(wait_s, max(0.0, (self._retry_at - self._clock.now()).total_seconds()))
        try:
            async with asyncio.timeout(wait_s):
                await self._poke.wait()
        except TimeoutError:
            return None
        self._poke.clear()
        if self.resource.spec.suspended:
            return None
        reading = asyncio.create_task(self._read())
        await self._quiet()
        try:
            return await reading
        except _NotNow:
            return None  # the look that follows says so

    async def _quiet(self) -> None:
        """Returns after 200 ms without a further hint, or after 2 s."""
        until = self._clock.monotonic() + LONGEST_WAIT_S
        with suppress(TimeoutError):
            while self._clock.monotonic() < until:
                async with asyncio.timeout(QUIET_S):
                    await self._poke.wait()
                self._poke.clear()

    # one look

    async def _look(self, before: Scan | None = None, at_start: bool = False, confirmed: str = "") -> None:
        """Scans, and applies what is new, settled, valid and not refused."""
        if self.resource.spec.suspended:
            return
        now = self._clock.now()
        due = self._retry_at is not None and now >= self._retry_at
        if due:
            self._seen, self._retry_at = "", None
        try:
            scan = await self._settled(before, at_start)
            if scan is not None:
                if not due:
                    self._failures = 0
                self._seen, self._retry_at = scan.digest, None
                await self._attempt(scan, confirmed)
        except _NotNow as error:
            self._seen = ""
            self._fail(self.last_attempted, str(error), "NotReadable")

    async def _settled(self, before: Scan | None, at_start: bool) -> Scan | None:
        """What stands there and stands still; None when it has been attempted before. Raises _NotNow."""
        until = self._clock.monotonic() + PATIENCE_S
        while True:
            scan = await self._read()
            if scan.digest == self._seen:
                return None
            same = before is not None and before.digest == scan.digest
            if (same or (at_start and self._stood_still(scan))) and not scan.written:
                return scan
            if self._clock.monotonic() >= until:
                what = f"{scan.written[0]} is being written" if scan.written else "its files keep changing"
                raise _NotNow(f"{what}, for more than {PATIENCE_S:.0f} s", "what runs stays as it is")
            before = scan
            await asyncio.sleep(SETTLE_S)

    def _stood_still(self, scan: Scan) -> bool:
        """Whether nothing of it has changed for as long as a settle takes: a start need not wait for what is old.

        By the inode's own time, which nobody can set; at a start only, for later on nothing but the hash counts.
        """
        still_ns = self._clock.now().timestamp() * 1e9 - scan.changed_ns
        return still_ns >= SETTLE_S * 1e9

    async def _attempt(self, scan: Scan, confirmed: str) -> None:
        loaded = await asyncio.to_thread(
            render.load, [Tree(self.root, scan.files)], scan.variant, self.root, scan.digest, (), self._loaded
        )
        problems = [p for p in (*scan.problems, *loaded.problems) if p.severity == "error"]
        if problems:
            first = validate.render_concise(problems[0])
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            if self._fail(scan.digest, first + more, "ManifestInvalid"):
                listed = "\n".join(map(validate.render_concise, problems))
                log.error("%s is not valid, what runs stays as it is:\n%s", self.root, listed)
            return
        for problem in loaded.problems:
            if problem.rule == UNUSED:
                log.warning("%s", validate.render_concise(problem))
        now = self._clock.now()
        try:
            decisions = applying.decide(self._store, loaded.objects, self.root, self.prune, now, self._siblings)
            if any(guard.deserves_second_look(decision.old, decision.object) for decision in decisions):
                await asyncio.sleep(SETTLE_S)
                again = await self._read()
                if again.digest != scan.digest or again.written:
                    self.rescan()  # half a file can be valid, and looked like one that takes workers away
                    return
                decisions = applying.decide(self._store, loaded.objects, self.root, self.prune, now, self._siblings)
            stands = identity(self.root)
            replaced = self.resource.status.identity not in ("", stands)
            refused = applying.refusal(self._store, decisions, self.root, replaced)
            if refused and confirmed != scan.digest:
                if self._fail(
                    scan.digest, f"{refused} (reconciler source sync {self.name} --confirm)", "PruneRefused", True
                ):
                    log.error("%s is not applied: %s", self.root, refused)
                return
            applied = applying.stage(self._store, decisions, "source", now)
            await self._committed()
        except ReconcilerError as error:
            self._try_again(error)
            if self._fail(scan.digest, str(error), "ApplyFailed"):
                log.error("%s cannot be applied: %s", self.root, error)
            return
        self._failures = 0
        self._say(
            SourceStatus(
                last_attempted=scan.digest,
                last_attempted_at=now,
                last_applied=scan.digest,
                last_applied_at=now,
                identity=stands,
            )
        )
        for change in applied:
            if change.word != "unchanged":
                log.info("%s %s (%s)", change.key, change.word, self.root)

    def _try_again(self, error: ReconcilerError) -> None:
        """What cannot be applied now may be so later, without any change of the files."""
        self._failures += 1
        retry_s = guard.retry_s(self._failures, for_ever=isinstance(error, Unavailable))
        self._retry_at = None if retry_s is None else self._clock.now() + timedelta(seconds=retry_s)

    def _fail(self, digest: str, message: str, reason: str, refused: bool = False) -> bool:
        """Says why it was not applied; whether that is news."""
        before, now = self.resource.status, self._clock.now()
        news = (digest, message) != (before.last_attempted, before.error)
        if news:
            self._store.add_event(event(self.resource.key, reason, message, now, warning=True))
        failed = {"last_attempted": digest, "last_attempted_at": now, "error": message, "refused": refused}
        if before.identity and not identity(self.root):
            failed["identity"] = GONE  # what is made here next is another directory, though it may get the same inode
        self._say(before.changed(**failed))
        return news

    def _say(self, status: SourceStatus) -> None:
        self._store.set_status(self.resource.key, status)

    async def _read(self) -> Scan:
        """One scan, in a thread of its own. Raises _NotNow when it hangs; the next look waits for that one to end first."""
        while True:
            fresh = self._reading is None
            reading = self._reading = self._reading or _in_thread(lambda: self.wanted.over(self._scan(self.root)))
            try:
                async with asyncio.timeout(self._read_s):
                    scan = await asyncio.shield(reading)
            except TimeoutError:
                late = f"{self.root} has not been read within {self._read_s:g} s"
                raise _NotNow(late, "its file system hangs") from None
            self._reading = None
            if fresh:
                return scan


def forget_others(store: Store, roots: Collection[str]) -> None:
    """Takes away the objects of sources that are read no longer."""
    for source in store.all(Source):
        if source.spec.path not in roots:
            store.remove(source.key)


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """As asyncio.to_thread, in a daemon thread: one that hangs for ever must not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="source", daemon=True).start()
    return future
