"""A Task: one command, run once with success, however often that takes. Not an object of the store: see `store`.

Pending -> Running -> Succeeded
   ^          |------> Retrying (waits) -> Pending
Delayed       |------> Failed | DeadLettered | Cancelled | Expired | Unknown      an end never changes
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NotRequired

from pydantic import ConfigDict, Field, PlainValidator, WithJsonSchema
from typing_extensions import TypedDict

from reconciler.resources.environment import MAX_ARGUMENT_BYTES
from reconciler.resources.meta import Metadata, Model, Object
from reconciler.resources.pool import OnUnknown
from reconciler.resources.scheduling import DEFAULT_PRIORITY, MAX_PRIORITY, Tenant
from reconciler.resources.units import Duration, Moment, duration_s, moment, shown
from reconciler.resources.worker import Reason

MAX_PAYLOAD_BYTES = 256 << 10

LONGEST_DELAY_S = 10 * 365 * 86400.0


def when(value: Any) -> float | datetime:
    """A moment, or how long from now: `2026-11-23T18:10:00Z` or `10m`. Raises ValueError."""
    if isinstance(value, datetime | float):
        return value
    if isinstance(value, str) and "T" in value:
        return moment(value)
    try:
        return duration_s(value)
    except ValueError:
        raise ValueError(f"expected 10m from now, or 2026-11-23T18:10:00Z, got {shown(value)}") from None


When = Annotated[float | datetime, PlainValidator(when), WithJsonSchema({"type": "string", "examples": ["10m"]})]
"""Seconds from the submission, or a moment."""

Argument = Annotated[str, Field(max_length=MAX_ARGUMENT_BYTES, pattern=r"^[^\x00]*$")]


class TaskState(StrEnum):
    """Where a task stands."""

    PENDING = "Pending"
    DELAYED = "Delayed"
    RUNNING = "Running"
    RETRYING = "Retrying"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DEAD_LETTERED = "DeadLettered"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"
    UNKNOWN = "Unknown"

    @property
    def ended(self) -> bool:
        """Whether this is an end: it never changes again."""
        return self in _ENDS


_ENDS = frozenset(
    {
        TaskState.SUCCEEDED,
        TaskState.FAILED,
        TaskState.DEAD_LETTERED,
        TaskState.CANCELLED,
        TaskState.EXPIRED,
        TaskState.UNKNOWN,
    }
)


RETRIED = frozenset(_ENDS - {TaskState.SUCCEEDED})
"""Ends after which a task may be tried once more; one that succeeded never runs again."""


class Submission(Model):
    """One task as it is submitted: a line of `submit --from`, an item of the HTTP list."""

    command: list[Argument] = Field(
        default_factory=list,  # a list given here would be copied for each task that has none
        min_length=1,
        max_length=4096,
        description="argv; no shell. A Warm pool takes none: it takes a payload.",
    )
    env: dict[str, Argument] = Field(default_factory=dict, description="Variables beside those of the pool.")
    payload: Any = Field(default=None, description="Any JSON value; in RECONCILER_PAYLOAD, or for a Warm pool.")
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=255, description="The same key and content: the same task."
    )
    priority: int = Field(
        default=DEFAULT_PRIORITY,
        ge=0,
        le=MAX_PRIORITY,
        description="200 and more: urgent; below 100: when nothing else waits. For pools that schedule by Priority.",
    )
    tenant: Tenant | None = Field(default=None, description="Whom it is for: FairShare divides between tenants.")
    key: Tenant | None = Field(default=None, description="What it is about: tasks of one key meet one worker.")
    delay_s: Duration | None = Field(default=None, description="It does not begin before this time has passed.")
    not_before: Moment | None = Field(default=None, description="It does not begin before this moment.")
    deadline: When | None = Field(
        default=None, description="A moment, or a time from now: then it ends Expired, begun or not."
    )
    timeout_s: Duration | None = Field(default=None, description="Longest running time of one try.")
    max_attempts: int | None = Field(default=None, ge=1, le=1000, description="Tries in all; absent: the pool's.")
    on_unknown: OnUnknown | None = Field(default=None, strict=False, description="Absent: the pool's.")


class Plain(TypedDict):
    """A Submission that is a command and perhaps a priority, as nearly all of a million are: checked in half the time."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]

    command: Annotated[list[Argument], Field(min_length=1, max_length=4096)]
    priority: NotRequired[Annotated[int, Field(ge=0, le=MAX_PRIORITY)]]


class TaskSpec(Model):
    """What was submitted."""

    pool: str
    command: list[str] = []
    env: dict[str, str] = {}
    payload: Any = None
    priority: int = DEFAULT_PRIORITY
    tenant: str | None = None
    key: str | None = None
    not_before: Moment | None = None
    deadline: Moment | None = None
    idempotency_key: str | None = None
    retry_of: str | None = Field(default=None, description="The task that was tried once more as this one.")
    timeout_s: Duration | None = None
    max_attempts: int
    on_unknown: OnUnknown = Field(strict=False)


class TaskStatus(Model):
    """What became of it."""

    state: TaskState
    attempts: int = 0
    exit_code: int | None = None
    signal: str | None = None
    reason: Reason | None = None
    message: str = ""
    worker: str | None = Field(default=None, description="The slot it ran or runs in, such as batch-3.")
    pid: int | None = None
    submitted_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    next_attempt_at: Moment | None = None
    result: Any = None


class Task(Object):
    """One command, run once with success."""

    plural: ClassVar[str] = "tasks"

    kind: Literal["Task"] = "Task"
    metadata: Metadata
    spec: TaskSpec
    status: TaskStatus
