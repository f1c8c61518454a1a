"""What the API asks of the running daemon; everything else it reads from the store.

The daemon implements it; tests of the API bring a small one of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from reconciler.loading.variant import Wanted
from reconciler.monitoring.usage import Sample
from reconciler.resources.lock import Holder, Waiter
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool
from reconciler.resources.task import Plain, Submission
from reconciler.resources.worker import Worker
from reconciler.store.base import Store, TaskRecord


class Caller(NamedTuple):
    """Who asks, as the kernel says (SO_PEERCRED)."""

    uid: int
    pid: int
    user: str


class LogFile(NamedTuple):
    """One file of output, oldest first in a list of them."""

    path: str
    running: bool
    """Whether a process may still write to it."""


class Source(Protocol):
    """A directory of manifests that the daemon keeps applied."""

    root: str
    name: str
    prune: bool
    wanted: Wanted

    def rescan(self) -> None:
        """Looks soon, also when its content is unchanged."""
        ...

    async def sync(self, confirm: bool = False) -> None:
        """Looks now. `confirm`: what was refused at the last look may be done. Raises Refused while it is suspended."""
        ...

    def report(self) -> dict[str, Any]:
        """As `status` shows it."""
        ...


class Usage(Protocol):
    """What processes use: joined into objects when they are read."""

    async def fresh(self) -> None:
        """Returns when the samples are at most a second old, or cannot be had soon."""
        ...

    def of(self, key: str, pid: int = 0) -> Sample | None:
        """The latest of a worker's or task's process and what belongs to it; of a pool, that of all it runs."""
        ...

    def history(self, key: str, instance: str = "") -> list[Sample]:
        """Up to a hundred samples of a worker's start, or of a pool, oldest first."""
        ...


class Sessions(Protocol):
    """Those that hold locks and those that wait for them; what they change is acknowledged after `committed`."""

    def ask(self, name: str, waiter: Waiter, now: datetime) -> None:
        """Puts it at the end of the line, once; a lock that nobody has declared is made. Raises Deadlock, Refused."""
        ...

    def hear(self, name: str, id: str) -> bool:
        """The session is there; whether it holds the lock or waits for it."""
        ...

    def holder(self, name: str, id: str) -> Holder | None:
        """The session's hold of the lock, if it has it."""
        ...

    def renew(self, name: str, id: str, token: int, sequence: int) -> None:
        """The lease begins anew; a renewal that comes after a later one changes nothing. Raises LockLost."""
        ...

    def release(self, name: str, id: str, token: int | None = None) -> bool:
        """Gives it back, or leaves the line; whether that was theirs to do. Raises NotFound."""
        ...


class Daemon(Protocol):
    """The running daemon as the API sees it. Everything here is quick and on the event loop."""

    store: Store

    @property
    def sources(self) -> Sequence[Source]:
        """In the order of the command line."""
        ...

    @property
    def sessions(self) -> Sessions:
        """Who holds locks and waits for them."""
        ...

    @property
    def usage(self) -> Usage:
        """What is used now."""
        ...

    async def committed(self) -> None:
        """Returns when all that was staged before the call is durable. Raises StoreFull; nothing was acknowledged then."""
        ...

    async def changed(self, tasks: Collection[int] = ()) -> None:
        """Returns after the next commit or change of a task: for those who wait for a condition.

        With `tasks` it may wait until one of them has changed its state.
        """
        ...

    def submit(self, pool: str, submissions: Sequence[Submission | Plain]) -> list[TaskRecord]:
        """Stages the tasks, all or none; the caller answers after `committed`.

        Raises NotFound (no pool), Refused (the pool takes no tasks), Conflict (idempotency), QueueFull, Unavailable.
        """
        ...

    def retry(self, task_id: int) -> TaskRecord:
        """A new task like one that has ended; asked twice, made once.

        Raises NotFound, Refused (it has not ended, or succeeded), QueueFull, Unavailable.
        """
        ...

    def cancel(self, task_id: int) -> TaskRecord:
        """Cancels what waits, ends what runs; an ended task stays as it is. Raises NotFound."""
        ...

    def live_task(self, task_id: int) -> TaskRecord | None:
        """The record of a task that has not ended, as it stands in memory."""
        ...

    def signal(self, workers: Sequence[Worker], name: str, group: bool) -> list[str]:
        """Sends a signal to the main process, or the group, of each; returns their names."""
        ...

    async def reload(self, pool: Pool, workers: Sequence[Worker]) -> dict[str, str]:
        """Has each read its configuration anew, as the pool declares; by name what went wrong, or nothing."""
        ...

    def restart(self, pool: Pool) -> None:
        """Has all workers of a pool started anew, one after another."""
        ...

    def rescan(self) -> None:
        """Looks at the sources now."""
        ...

    def shutdown(self, keep_workers: bool, hurry: bool = False) -> None:
        """Begins to end the daemon: with all workers, gracefully; or leaving them running."""
        ...

    def report(self) -> dict[str, Any]:
        """`reconciler status`: launcher, controller, state, sources, pools, problems."""
        ...

    def logs(self, key: Key, previous: bool = False) -> list[LogFile]:
        """Where a worker's or a task's output stands. Raises NotFound."""
        ...

    def written_before(self, files: Sequence[LogFile], since_s: float) -> dict[str, int]:
        """How many bytes of each were written before that moment (seconds since 1970), as far as is known."""
        ...
