"""The one function type of the house, and the values it speaks in.

    plan(key, world, now) -> Plan(actions, requeue_at)

A plan is data: the log prints it, the simulator runs it on a fake machine, and the executor is one `match` over Action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeVar

from reconciler.controllers.lines import Lines
from reconciler.controllers.tally import Tally
from reconciler.policies.budget import Grant
from reconciler.resources.event import Event
from reconciler.resources.lock import Lock
from reconciler.resources.meta import Key, Object
from reconciler.resources.pool import Pool, Template

T = TypeVar("T", bound=Object)


class Mode(StrEnum):
    """What the daemon as a whole is doing."""

    RUNNING = "Running"
    STOPPING = "Stopping"
    """Everything is being stopped; nothing is started."""
    HURRYING = "Hurrying"
    """As STOPPING, with no grace left."""


class Begun(NamedTuple):
    """A running task, as a policy that may stop it sees it."""

    id: int
    level: int
    suspended: bool
    """It stands still."""


class Suspension(NamedTuple):
    """What runs and what waits."""

    demotes: bool
    """Whether the policy stops what runs; otherwise some only stand still from before."""
    begun: Sequence[Begun]
    """In the order in which they began."""
    waiting: Sequence[int]
    """The levels of the first that wait."""
    unsaid: Sequence[int]
    """What stands still as far as an earlier controller has written down, which may have died before it said so."""
    lane: int
    """How many that stand still the launcher has been given slots for."""


class Queue(Protocol):
    """A read-only view of one pool's tasks at one moment."""

    def ready(self, limit: int, now_ms: int) -> Sequence[int]:
        """Ids of the first tasks that may go now, in the order of the policy; none is claimed already."""
        ...

    @property
    def waiting(self) -> int:
        """Tasks that are ready now or later and not claimed."""
        ...

    @property
    def backlog(self) -> int:
        """Tasks that could begin now and have not."""
        ...

    @property
    def claimed(self) -> int:
        """Tasks handed to the launcher and not ended: running, or waiting there for a slot."""
        ...

    def ended_since(self, ms: int) -> int:
        """How many tries have ended since that moment, as far back as is remembered."""
        ...

    @property
    def next_due_ms(self) -> int | None:
        """When the first delayed or retrying task becomes ready."""
        ...

    def expired(self, now_ms: int, limit: int) -> Sequence[int]:
        """Ids of waiting tasks that can no longer meet their deadline."""
        ...

    def unwanted(self, now_ms: int) -> Sequence[int]:
        """Claimed tasks that have not begun and should not: too late, or others have to go before them; each once."""
        ...

    @property
    def next_weigh_ms(self) -> int | None:
        """When the CPU time of what runs is looked at again; None: the policy does not ask for it, or nothing runs."""
        ...

    def suspension(self, limit: int, now_ms: int) -> Suspension | None:
        """What runs and waits, where a policy has running tasks stand still; None: none does, and none shall."""
        ...

    @property
    def still(self) -> int:
        """How many running tasks stand still, for others go before them."""
        ...

    @property
    def next_retire_ms(self) -> int:
        """When its ended tasks are looked through again for what is kept no longer."""
        ...

    @property
    def recalling(self) -> int:
        """How many claimed tasks the launcher has been asked for and has neither begun nor given back."""
        ...

    @property
    def next_late_ms(self) -> int | None:
        """When the first task that has not begun can no longer meet its deadline."""
        ...

    def overdue(self, now_ms: int) -> Sequence[Overdue]:
        """Running tasks to be ended now: past their timeout, or cancelled; each once a step."""
        ...

    @property
    def next_deadline_ms(self) -> int | None:
        """When the first running task becomes overdue."""
        ...

    @property
    def counts(self) -> dict[str, int]:
        """Tasks by state (TaskState values)."""
        ...


@dataclass(frozen=True, slots=True)
class Overdue:
    """A running task that has to end, and how far that is: first the stop signal, after the grace the kill."""

    id: int
    instance: str
    kill: bool


class WorkerLine(NamedTuple):
    """How a warm worker stands to its tasks."""

    ready: bool
    """It has said so."""
    held: int
    """Tasks it has been given and not answered."""
    retire: str
    """Why it is to be stopped; empty if it is not."""
    at_once: bool
    """Not only when it has answered what it has."""
    kill: bool
    """Without grace."""
    fault: bool
    """For what it did: that counts as a failure."""


class World(Protocol):
    """A read-only view of one moment."""

    @property
    def mode(self) -> Mode:
        """What the daemon as a whole is doing."""
        ...

    def get(self, model: type[T], name: str) -> T | None:
        """One object."""
        ...

    def owned_by(self, owner: Key, model: type[T]) -> Sequence[T]:
        """What belongs to it; workers by ordinal."""
        ...

    def tally(self, pool: str) -> Tally:
        """Its workers, counted by what they have in common."""
        ...

    def dependents(self, pool: str) -> Sequence[Pool]:
        """The pools that depend on this one."""
        ...

    def template(self, pool: str, template_hash: str) -> Template | None:
        """The template a pool has, or had, under that hash."""
        ...

    def queue(self, pool: str) -> Queue:
        """The pool's tasks."""
        ...

    def cpu_percent(self, pool: str | None = None) -> float | None:
        """What all processes of a pool use of one core, in percent; of the host, without a pool, of all its cores.

        None: it is not known.
        """
        ...

    def locks(self) -> Sequence[Lock]:
        """All of them."""
        ...

    def pools_with_lock(self, lock: str) -> Sequence[Pool]:
        """The pools whose workers hold it while they run."""
        ...

    def lease_left_s(self, id: str, lease_s: float) -> float:
        """How long the lease of that session lasts still; not above zero: it is over."""
        ...

    def token_floor(self, lock: str) -> int:
        """The largest token of that lock that was ever given."""
        ...

    def lines(self, pool: str) -> Lines:
        """What the workers of a warm pool have been given."""
        ...

    def line(self, worker: str) -> WorkerLine | None:
        """What a warm worker has been given; None of any other."""
        ...

    def grant(self, pool: Pool, seed: str, now: datetime) -> Grant:
        """When the budgets of the pool and of the host allow the next restart of one of its workers."""
        ...


@dataclass(frozen=True, slots=True)
class Create:
    """A new object; `free_ports` names ports that the machine shall choose and write into `spec.ports`."""

    object: Object
    free_ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """The object is wanted gone: `metadata.deleted_at` is set, its controller takes it from there."""

    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Nothing of the object is left: it goes now."""

    key: Key


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A controller's word to an object it owns (a worker's new template); `free_ports` as in Create."""

    key: Key
    spec: Any
    reason: str
    free_ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetStatus:
    """What is so, as this controller sees it."""

    key: Key
    status: Any


@dataclass(frozen=True, slots=True)
class Spawn:
    """A start of a worker; `status` (process Asked) is made durable before the launcher hears of it."""

    key: Key
    instance: str
    template_hash: str
    status: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal to an instance: to its group, or SIGKILL to whatever of its tree can be found."""

    key: Key
    instance: str
    signal: str
    tree: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PreStop:
    """The command before an instance's stop signal is run, once, beside it."""

    key: Key
    instance: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndPreStop:
    """That command has had its time: its tree is killed."""

    key: Key
    instance: str


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Declared files of an ended worker are removed, and its temporary directory if it had one."""

    key: Key
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """A task pool's slots and the template its tasks run in, as the launcher shall know them."""

    pool: str
    slots: int
    template_hash: str
    still: int = 0
    """So many of the slots are those of tasks that stand still."""


@dataclass(frozen=True, slots=True)
class Suspend:
    """These running tasks stand still from now on; said again, it changes nothing."""

    pool: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Continue:
    """These tasks, which stand still, go on."""

    pool: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """These tasks are claimed, made durable as such, and handed to the launcher, in this order."""

    pool: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Assign:
    """These tasks are claimed, made durable as such, and fed to these warm workers, in this order."""

    pool: str
    pairs: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Relieve:
    """A warm worker gets no more tasks, and is stopped when it has none."""

    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class Expire:
    """These waiting tasks end: their deadline cannot be met any longer."""

    pool: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retire:
    """Ended tasks are dropped: those that ended before that moment, and of more than `keep` the oldest; some at a time."""

    pool: str
    before_ms: int
    keep: int


@dataclass(frozen=True, slots=True)
class Weigh:
    """What runs and has used up its quantum of CPU gets less of it from here on."""

    pool: str


@dataclass(frozen=True, slots=True)
class Recall:
    """The launcher is asked to give back these claimed tasks, if they have not begun."""

    pool: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EndTask:
    """A running task is signalled (its group) or killed (its tree)."""

    pool: str
    id: int
    instance: str
    signal: str
    tree: bool


@dataclass(frozen=True, slots=True)
class Charge:
    """A restart of a pool's worker at that moment counts for the budgets of its pool and of the host."""

    pool: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """An event that people and `why` shall see."""

    event: Event


Action = (
    Create
    | Delete
    | Remove
    | SetSpec
    | SetStatus
    | Spawn
    | Signal
    | PreStop
    | EndPreStop
    | Cleanup
    | Lane
    | Suspend
    | Continue
    | Dispatch
    | Assign
    | Relieve
    | Expire
    | Retire
    | Weigh
    | Recall
    | EndTask
    | Charge
    | Record
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order, and when to look again at the latest."""

    actions: tuple[Action, ...] = ()
    requeue_at: datetime | None = None
