"""A Worker: one slot of a pool, whatever process lives in it. Made by its pool, never by hand.

The object outlives its processes: restarts, last exit and backoff stand here. Each start is an instance; an event of an
older instance never changes a newer one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from reconciler.resources.meta import Metadata, Model, Object
from reconciler.resources.probe import Health
from reconciler.resources.units import Moment


class Process(StrEnum):
    """What is known of the slot's process; written by the observer only."""

    NONE = "None"
    """Nothing of it lives."""
    ASKED = "Asked"
    """A start is recorded here and the launcher has been, or will be, asked for it; asking again is harmless."""
    UP = "Up"
    """It runs."""
    EMPTYING = "Emptying"
    """Its main process has ended; others of its tree may live, so the slot is not free."""
    BLOCKED = "Blocked"
    """It can neither be found nor proven dead: nothing is started in its place."""


class State(StrEnum):
    """What a person is shown."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    READY = "Ready"
    STOPPING = "Stopping"
    BACKOFF = "Backoff"
    FAILED = "Failed"
    COMPLETED = "Completed"
    STOP_STUCK = "StopStuck"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a process, or one try of a task, is over."""

    EXITED = "Exited"
    SIGNALLED = "Signalled"
    OOM_KILLED = "OOMKilled"
    KILLED_EXTERNALLY = "KilledExternally"
    PROBE_FAILED = "ProbeFailed"
    STOPPED = "Stopped"
    TIMED_OUT = "TimedOut"
    START_FAILED = "StartFailed"
    EXIT_UNKNOWN = "ExitUnknown"
    HOST_REBOOTED = "HostRebooted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """A task's deadline passed while it ran."""
    PROTOCOL_ERROR = "ProtocolError"
    """A warm worker said what makes no sense, or closed its channel."""
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    """A task did not begin in time for its deadline."""


class FaultType(StrEnum):
    """What kind of fault an end is; `policies/fault.py` has the table."""

    SPAWN_FAILED = "SpawnFailed"
    EXECUTION_TIMED_OUT = "ExecutionTimedOut"
    UNEXPECTED_EXIT = "UnexpectedExit"
    RESOURCES_EXHAUSTED = "ResourcesExhausted"
    UNHEALTHY = "Unhealthy"


class LastExit(Model):
    """How the latest process ended."""

    code: int | None = None
    signal: str | None = None
    reason: Reason
    type: FaultType | None = Field(default=None, strict=False, description="The kind of fault; absent: none.")
    step: str | None = Field(default=None, description="Of a failed start: how far it came.")
    errno: int | None = Field(default=None, description="Of a failed start: the system's word for what went wrong.")
    message: str = Field(default="", description="For a failed start: the step, what went wrong and how to mend it.")
    at: Moment
    instance: str = ""


class PreStopState(StrEnum):
    """How far the command is that is run before the stop signal."""

    WANTED = "Wanted"
    RUNNING = "Running"
    """It has been, or will be, asked for; asking again is harmless."""
    OVER = "Over"


class Stopping(Model):
    """A stop under way; the deadline is absolute and survives a restart of the daemon."""

    reason: str
    since: Moment
    deadline: Moment
    signalled: bool = False
    killed: bool = False
    pre_stop: PreStopState | None = Field(default=None, description="The command before the signal; absent: none.")
    fault: bool = Field(default=False, description="It is stopped for what it did: that counts as a failure.")


class Decision(Model):
    """One step of the chain that brought a worker here: what was decided, and because of what."""

    at: Moment
    action: str = Field(description="Start, Wait, Fail, Complete, Stop, Kill, Forgive, Block or Stuck.")
    message: str = Field(default="", description="What it means: which start, until when.")
    because: str = Field(default="", description="The end, change or order that it follows from.")
    rule: str = Field(default="", description="What said so: a rule, a policy, a budget.")
    declared: str = Field(default="", description="Where the pool was declared then: PATH:LINE and revision.")


class WorkerSpec(Model):
    """Which slot it is and what shall run in it."""

    pool: str
    ordinal: int
    template_hash: str
    ports: dict[str, int] = Field(default={}, description="Port numbers chosen for this slot, by name.")


class WorkerStatus(Model):
    """What is so."""

    state: State = State.PENDING
    process: Process = Process.NONE
    instance: str = Field(default="", description="The running or latest start.")
    template_hash: str = Field(default="", description="What that start runs.")
    pid: int | None = None
    ready: bool = False
    adopted: bool = Field(
        default=False, description="Taken over from an earlier launcher: its exit code may be unknowable."
    )
    starts: int = 0
    restarts: int = 0
    failures: int = Field(default=0, description="Ends in a row that count for the backoff.")
    recent_restarts: tuple[Moment, ...] = Field(default=(), description="Restarts within the policy's window.")
    started_at: Moment | None = None
    next_start_at: Moment | None = None
    last_exit: LastExit | None = None
    previous_instance: str = Field(default="", description="The start before, for `logs --previous`.")
    counted: str = Field(default="", description="The start whose end has been counted into failures and restarts.")
    admitted: str = Field(default="", description="The start whose successor the restart budgets have granted.")
    decisions: tuple[Decision, ...] = Field(default=(), description="The latest decisions, oldest first.")
    claims: str = Field(default="", description="The start that holds the pool's locks, or waits for them.")
    tokens: dict[str, int] = Field(default={}, description="The token of each lock that the present start holds.")
    stopping: Stopping | None = None
    stuck: bool = Field(default=False, description="SIGKILL has not ended it.")
    health: Health | None = Field(default=None, description="What its probes found; absent: it has none.")
    message: str = ""

    @property
    def pre_stops(self) -> bool:
        """Whether the command before its stop signal runs."""
        return self.stopping is not None and self.stopping.pre_stop is PreStopState.RUNNING

    @property
    def probed(self) -> Health | None:
        """What the probes found of the present start."""
        health = self.health
        return health if health is not None and health.instance == self.instance else None

    @property
    def stands_by(self) -> bool:
        """Whether all that it lacks is a lock."""
        return bool(self.claims) and self.process is Process.NONE

    @property
    def ready_since(self) -> Moment | None:
        """Since when it is ready; None: it is not."""
        if not self.ready:
            return None
        health = self.probed
        return self.started_at if health is None else health.ready_since


class Worker(Object):
    """One slot of a pool and whatever process lives in it."""

    plural: ClassVar[str] = "workers"

    kind: Literal["Worker"] = "Worker"
    metadata: Metadata
    spec: WorkerSpec
    status: WorkerStatus = WorkerStatus.model_construct()
