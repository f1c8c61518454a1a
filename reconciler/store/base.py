"""What a store does, and the records that pass through it.

    create, update, set_status, remove, add_event, tasks.stage     change memory at once and stage a row
    commit()                                                       makes all that is staged durable, in one transaction
    (only then)                                                    acknowledgements, spawns and watchers' changes go out

Memory may run ahead of the disk; nothing that leaves the process may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from reconciler.errors import Unavailable
from reconciler.resources.event import Event
from reconciler.resources.meta import Key, Object
from reconciler.resources.task import TaskState

T = TypeVar("T", bound=Object)

WATCH_WINDOW = 10_000
"""So many changes can be watched after the fact; older ones are Gone."""


class StoreFull(Unavailable):
    """The disk is full or read-only: nothing was written, everything staged is kept and tried again."""

    reason = "StorageFull"


class Change(NamedTuple):
    """One committed change of one object."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object


@dataclass(slots=True, eq=False)
class TaskRecord:
    """One task as the queue and the table keep it: plain values, because there may be a million.

    `attempts` counts tries that began; `claim` is the number of the try that has been made durable for the launcher and
    has not ended (0: none). A claim that never began is taken back without being counted.
    """

    id: int
    pool: str
    state: TaskState
    submitted_ms: int
    max_attempts: int
    spec: str | None
    """The TaskSpec as JSON; None when it is not in memory and must be read from the table."""
    timeout_ms: int = 0
    """Longest running time of one try; 0: no limit."""
    idempotency_key: str | None = None
    digest: str | None = None
    """Of the submission, where there is an idempotency key: the same key with another content is refused."""
    on_unknown_fail: bool = False
    priority: int = 100
    tenant: str | None = None
    key: str | None = None
    deadline_ms: int = 0
    """The moment after which it is of no use; 0: it has none."""
    attempts: int = 0
    claim: int = 0
    due_ms: int = 0
    """Not before this moment (Delayed, Retrying)."""
    started_ms: int = 0
    finished_ms: int = 0
    exit_code: int | None = None
    signal: str | None = None
    reason: str | None = None
    message: str = ""
    slot: int = -1
    cancelling: bool = False
    """A cancel came while it ran: whatever its exit, it ends Cancelled."""
    result: str | None = None
    """What it gave back, as JSON."""
    tries: str | None = None
    """How the tries before this one ended, as JSON; None: there were none. See `controllers.tasks.tries_with`."""
    pid: int = 0
    """Memory only."""


class Dropped(NamedTuple):
    """An ended task that is kept no longer."""

    id: int
    state: TaskState
    attempts: int
    finished_ms: int
    key: str | None
    """Its idempotency key, which is free again."""


class Tasks(Protocol):
    """The task table. Live tasks are in memory, ended ones on disk only."""

    def next_id(self) -> int:
        """A number no task has had."""
        ...

    def stage(self, record: TaskRecord) -> None:
        """This record is new or has changed; it is written with the next commit. Ended ones leave memory after it."""
        ...

    def stage_new(self, pool: str, records: Sequence[TaskRecord]) -> None:
        """As `stage` for each of these tasks of one pool, whose numbers have just come from `next_id`; quicker for many."""
        ...

    def drop_new(self) -> list[TaskRecord]:
        """Takes back every record that was staged as new since the last commit (the commit failed); returns them."""
        ...

    def drop(self, pool: str, before_ms: int, keep: int, limit: int) -> list[Dropped]:
        """Stages the removal of ended tasks: what ended before that moment, and of more than `keep` the oldest.

        Looks at the `limit` oldest; returns what goes. `counts` still has them.
        """
        ...

    def live(self) -> Iterable[TaskRecord]:
        """All tasks that have not ended, by id; after opening: without `spec`."""
        ...

    def get(self, task_id: int) -> TaskRecord | None:
        """One task, live or ended, with its spec."""
        ...

    def specs(self, ids: Sequence[int]) -> dict[int, str]:
        """The specs of these tasks, one read for all."""
        ...

    def by_key(self, pool: str, idempotency_key: str) -> TaskRecord | None:
        """The task of that pool that has this key, live or retained."""
        ...

    def query(
        self,
        pool: str | None = None,
        state: TaskState | None = None,
        since_ms: int = 0,
        limit: int = 1000,
        after_id: int = 0,
    ) -> list[TaskRecord]:
        """Tasks by id, with their specs."""
        ...

    def counts(self, pool: str) -> dict[TaskState, int]:
        """How many tasks of a pool are in each state, dropped ones too; kept as they change, never counted on the spot."""
        ...

    def remember(self, pool: str, words: Mapping[str, str | None]) -> None:
        """Stages what the order of a pool's tasks has to know after a restart, each under its name; None: no longer."""
        ...

    def remembered(self, pool: str) -> dict[str, str]:
        """All that the order of a pool's tasks was given to know when the store was opened, or has staged since."""
        ...


class Store(Protocol):
    """Objects with revisions, compare-and-swap and watch; events; tasks."""

    id: str
    """Eight hexadecimal digits made with the store; part of every instance's name."""

    rebooted: bool
    """Whether the machine has booted since the last commit: then no process that is recorded lives."""

    @property
    def tasks(self) -> Tasks:
        """The task table."""
        ...

    @property
    def revision(self) -> int:
        """The newest revision; rises by one with every change of an object, never goes back."""
        ...

    def get(self, model: type[T], name: str) -> T | None:
        """One object."""
        ...

    def all(self, model: type[T]) -> list[T]:
        """All objects of a kind, by name (workers: by pool and ordinal)."""
        ...

    def owned_by(self, owner: Key, model: type[T]) -> list[T]:
        """The objects of a kind whose `metadata.owner` is `owner`; workers by ordinal. From an index."""
        ...

    def create(self, obj: Object) -> Object:
        """Adds it, with uid, generation 1, created_at and resource_version. Raises Conflict if the name is taken."""
        ...

    def update(self, obj: Object, expected: int | None = None) -> Object:
        """Replaces spec, status and metadata; generation + 1 when the spec differs.

        Raises NotFound, and Conflict when `expected` is given and is not the stored resource_version.
        """
        ...

    def set_status(self, key: Key, status: Any) -> Object | None:
        """Replaces the status, nothing else; nothing at all when it is equal. None if there is no such object."""
        ...

    def remove(self, key: Key) -> Object | None:
        """Takes it away; returns what it was."""
        ...

    def add_event(self, event: Event) -> None:
        """Keeps it; one equal in object, reason and message within ten minutes raises that one's count instead."""
        ...

    def events(self, object_: str | None = None, limit: int = 1000) -> list[Event]:
        """The newest events in order of time; of one object (`pool/web`) if given."""
        ...

    @property
    def staged(self) -> bool:
        """Whether a commit would write anything."""
        ...

    def commit(self) -> None:
        """Makes everything staged durable in one transaction and publishes the changes.

        Raises StoreFull (disk full or read-only): all stays staged. Any other failure of the disk is a StoreBroken:
        the process must end, for what the kernel has dropped cannot be known.
        """
        ...

    def changes_since(self, revision: int) -> list[Change]:
        """Committed changes after that revision, in order. Raises Gone when some are no longer kept."""
        ...

    def on_change(self, callback: Callable[[Object | None, Object | None], None]) -> None:
        """Calls back with (old, new) at every change in memory, before it is durable: the work queue's feed."""
        ...

    def on_commit(self, callback: Callable[[list[Change]], None]) -> None:
        """Calls back after every commit with its changes: the watchers' feed."""
        ...

    def close(self) -> None:
        """Lets go of files and locks. What is staged and not committed is lost."""
        ...
