"""A Pool: so many workers of one template, or so many slots for tasks.

replicas: 3, template    ->  Worker web-0, web-1, web-2       long-lived processes
replicas: 4, tasks       ->  slots batch-0 .. batch-3         one process per submitted task
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from reconciler.resources.autoscale import MAX_REPLICAS, Autoscale, Wanted
from reconciler.resources.environment import EnvFrom, EnvVar
from reconciler.resources.limits import Resources, Rlimits, Sandbox
from reconciler.resources.lock import LockUse
from reconciler.resources.meta import Change, Condition, Metadata, Model, Name, Object, changes
from reconciler.resources.probe import Exec, Probes
from reconciler.resources.restart import Backoff, Match, Restart, RestartBudget
from reconciler.resources.scheduling import Scheduling
from reconciler.resources.units import Duration, Moment, Signal, Size, Umask

_LIVE = changes(Change.LIVE)


class Port(Model):
    """A port number the worker is told in PORT and PORT_<NAME>."""

    name: Name = Field(description="The variable is PORT_ and this in capitals.")
    base: int | None = Field(default=None, ge=1, le=65535, description="The ordinal is added: 8000, 8001, ...")
    port: int | None = Field(default=None, ge=1, le=65535, description="The same for all workers.")


class Socket(Model):
    """A listening socket, held by the launcher and passed to every worker (LISTEN_FDS)."""

    name: Name = Field(description="Handed on in LISTEN_FDNAMES.")
    listen: str = Field(description="HOST:PORT, [IPv6]:PORT or an absolute path.", max_length=255)


class PreStop(Model):
    """What is run before a worker is asked to end."""

    exec: Exec = Field(
        description="Run as the worker is, its output in the worker's log; whatever comes of it, the stop goes on."
    )


class Stop(Model):
    """How a worker is asked to end."""

    signal: Signal = Field(default="SIGTERM", description="Sent to its process group.")
    grace_period_s: Duration = Field(default=30.0, description="Then the whole tree is killed.")
    pre_stop: PreStop | None = Field(
        default=None,
        description="Before the signal, within the grace period; what has not ended by then is killed, and the worker"
        " gets 2s from its signal on.",
    )


class Reload(Model):
    """How a worker is asked to read its configuration anew; exactly one."""

    signal: Signal | None = Field(default=None, description="Sent to its main process.")
    exec: Exec | None = Field(default=None, description="Run as the worker is; exit code 0 is a success.")


class OnChange(StrEnum):
    """What follows when a watched file has another content."""

    RESTART = "Restart"
    RELOAD = "Reload"


class WatchedFile(Model):
    """A file whose content workers read when they start."""

    path: str = Field(pattern=r"^/[^\x00]*$", max_length=4095, description="A file; links are followed.")
    action: OnChange = Field(
        default=OnChange.RESTART, strict=False, description="Restart: one worker after another. Reload: as declared."
    )


class Destination(StrEnum):
    """Where a worker's output goes."""

    FILE = "File"
    STDOUT = "Stdout"
    """A file too, and its lines on the standard output of `up`."""
    JOURNAL = "Journal"
    """A file too, and its lines as entries of systemd's journal."""


class Logs(Model):
    """Where output goes and how much of it is kept."""

    destination: Destination = Field(
        default=Destination.FILE,
        strict=False,
        description="File: below the state directory. Stdout: also on that of `up`, each line with its worker's name."
        " Journal: also in systemd's journal, with RECONCILER_POOL and RECONCILER_WORKER to select by.",
        json_schema_extra=changes(Change.TEMPLATE),
    )
    max_size_bytes: Size = Field(
        default=10 << 20, description="A file is rotated beyond this.", json_schema_extra=_LIVE
    )
    max_files: int = Field(
        default=5, ge=1, le=1000, description="Rotated files kept beside the current one.", json_schema_extra=_LIVE
    )


class Cleanup(Model):
    """What is removed when a worker has ended, in any way."""

    files: list[str] = Field(
        default=[], max_length=100, description="Files and sockets; absolute; no globs, no directories."
    )


class Recycle(Model):
    """When a warm worker is replaced, one after another and never within a task; whichever comes first."""

    max_tasks: int | None = Field(default=None, ge=1, le=1_000_000_000, description="After so many tasks.")
    max_memory_bytes: Size | None = Field(default=None, description="When it and its children use more.")
    max_age_s: Duration | None = Field(default=None, description="When it has been up for so long.")


class Template(Model):
    """The process: a change of `command`, `env`, `user`, `workingDir`, `ports` or `sockets` replaces workers."""

    command: list[str] = Field(
        default=[], max_length=4096, description="argv; $(NAME) is a variable of its environment."
    )
    env: list[EnvVar] = Field(default=[], max_length=4096, description="Variables beside the standard ones.")
    env_from: list[EnvFrom] | None = Field(
        default=None, max_length=100, description="Files of variables; those of `env` come after."
    )
    user: str | None = Field(
        default=None, min_length=1, max_length=255, description="The account to run as; the daemon must be root."
    )
    group: str | None = Field(
        default=None, min_length=1, max_length=255, description="Its group; absent: that of the account."
    )
    groups: list[str] | None = Field(
        default=None, max_length=1000, description="Further groups; absent: those of the account."
    )
    umask: Umask | None = Field(default=None, description="Rights that files it makes do not get, octal; absent: 0022.")
    nice: int | None = Field(
        default=None, ge=-20, le=19, description="Its priority: 19 yields to all others; below 0 needs root."
    )
    resources: Resources = Field(
        default=Resources.model_construct(), description="What it may use with all its children, by cgroup."
    )
    rlimits: Rlimits = Field(default=Rlimits.model_construct(), description="Limits of each of its processes.")
    sandbox: Sandbox = Field(default=Sandbox.model_construct(), description="What it can gain and touch.")
    working_dir: str = Field(default="/", max_length=4095, description="An absolute path.")
    ports: list[Port] = Field(default=[], max_length=100, description="Port numbers handed out by ordinal.")
    sockets: list[Socket] = Field(
        default=[], max_length=100, description="Listening sockets passed from descriptor 3 on."
    )
    probes: Probes = Field(
        default=Probes.model_construct(), description="How it is asked whether it is well.", json_schema_extra=_LIVE
    )
    stop: Stop = Field(default=Stop.model_construct(), description="How it is asked to end.", json_schema_extra=_LIVE)
    reload: Reload | None = Field(
        default=None, description="How it is told to read its configuration anew.", json_schema_extra=_LIVE
    )
    watch_files: list[WatchedFile] = Field(
        default=[],
        max_length=100,
        description="Files whose content decides: another content restarts or reloads.",
        json_schema_extra=_LIVE,
    )
    logs: Logs = Field(default=Logs.model_construct(), description="Where its output goes.", json_schema_extra=_LIVE)
    cleanup: Cleanup = Field(
        default=Cleanup.model_construct(), description="What is removed after it.", json_schema_extra=_LIVE
    )
    recycle: Recycle | None = Field(
        default=None, description="When a warm worker has served enough and is replaced.", json_schema_extra=_LIVE
    )


class Mode(StrEnum):
    """How tasks meet processes."""

    PER_TASK = "PerTask"
    WARM = "Warm"


class OnUnknown(StrEnum):
    """What an end that nobody saw means for a task."""

    RETRY = "Retry"
    FAIL = "Fail"


class RetryAction(StrEnum):
    """What a rule wants after a try that ended so."""

    RETRY = "Retry"
    """Tried again, while there are tries left."""
    FAIL = "Fail"
    """Not tried again: Failed."""


class RetryRule(Match):
    """Which ends of a try it matches, by exactly one of `exitCodes`, `signals` and `reason`, and what follows those."""

    action: RetryAction = Field(strict=False, description="Retry, while tries are left; Fail: at once.")


class Retry(Model):
    """How often and after what wait a failed task is tried again."""

    max_attempts: int = Field(default=3, ge=1, le=1000, description="Tries in all; 1: no retry.")
    backoff: Backoff = Field(
        default=Backoff.model_construct(initial_s=10.0, max_s=600.0),
        description="The wait before each further try.",
    )
    rules: list[RetryRule] = Field(
        default=[],
        max_length=100,
        description="The first that matches a failed try decides; without one it is retried.",
    )


class Assignment(Model):
    """Which worker a task with a key goes to."""

    type: Literal["ConsistentHash"] = Field(
        default="ConsistentHash", description="ConsistentHash: a key meets the same worker, by its place on a ring."
    )
    virtual_nodes: int = Field(default=128, ge=1, le=4096, description="Places of each worker on the ring.")
    load_factor: float = Field(
        default=1.25,
        ge=1.0,
        le=100.0,
        description="A worker before which more than this times the average waits (and 64 tasks) is passed by.",
    )


class Tasks(Model):
    """Makes the pool's replicas slots for submitted tasks, or its workers takers of them."""

    mode: Mode = Field(
        default=Mode.PER_TASK,
        strict=False,
        description="PerTask: the command comes with the task. Warm: the template's processes take tasks.",
        json_schema_extra=changes(Change.TEMPLATE),
    )
    scheduling: Scheduling = Field(
        default=Scheduling.model_construct(),
        description="Which task goes next: {ref: NAME}, or a policy.",
        json_schema_extra=_LIVE,
    )
    timeout_s: Duration | None = Field(default=None, description="Longest running time of one try; absent: no limit.")
    retry: Retry = Field(default=Retry.model_construct(), description="How failed tries are repeated.")
    on_unknown: OnUnknown = Field(
        default=OnUnknown.RETRY, strict=False, description="When nobody saw how it ended: Retry or Fail."
    )
    ttl_after_finished_s: Duration = Field(
        default=7 * 86400.0,
        description="So long an ended task can be looked up, and its idempotency key is taken; of more than 100,000 the oldest go.",
    )
    queue_limit: int = Field(
        default=1_000_000, ge=1, le=100_000_000, description="Tasks waiting at once; more are refused."
    )
    assignment: Assignment | None = Field(
        default=None, description="Warm: which worker a key meets; absent: any.", json_schema_extra=_LIVE
    )
    depth: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="Warm: tasks a worker is given ahead at most; long ones are given one by one.",
        json_schema_extra=_LIVE,
    )


class RolloutFailure(StrEnum):
    """What a rollout does when its first new worker does not stay up."""

    PAUSE = "Pause"
    """What runs stays: the new ones that came up, and the old ones."""
    ROLLBACK = "Rollback"
    """The new ones go back to the template that was good before."""


class Strategy(Model):
    """How workers of a changed template replace the old ones."""

    type: Literal["RollingUpdate"] = Field(default="RollingUpdate", description="One after another.")
    max_unavailable: int = Field(default=1, ge=1, le=MAX_REPLICAS, description="Workers that may be missing at once.")
    min_ready_s: Duration = Field(
        default=0.0, description="A new worker must stay up this long (at least 1 s) before the next is replaced."
    )
    progress_deadline_s: Duration = Field(
        default=600.0, description="A rollout that has not moved for this long has failed."
    )
    on_failure: RolloutFailure = Field(
        default=RolloutFailure.PAUSE,
        strict=False,
        description="Pause: keep what runs and say so. Rollback: also bring the new ones back to the template before.",
    )


class DependencyCondition(StrEnum):
    """What must be so of what a pool depends on."""

    STARTED = "Started"
    """All its workers run."""
    AVAILABLE = "Available"
    """All its workers are ready, and have been for its minReady."""


class Dependency(Model):
    """Something that has to be there before the first worker is started; stopped in the reverse order."""

    kind: Literal["Pool"] = Field(default="Pool", description="Pool.")
    name: Name = Field(description="Which one.")
    condition: DependencyCondition = Field(
        default=DependencyCondition.AVAILABLE,
        strict=False,
        description="Started: all its workers run. Available: all are ready.",
    )


class PoolSpec(Model):
    """What is wanted of a pool."""

    replicas: int = Field(
        default=1, ge=0, le=MAX_REPLICAS, description="Workers, or slots for tasks.", json_schema_extra=_LIVE
    )
    autoscale: Autoscale | None = Field(
        default=None, description="As many as are needed; instead of replicas.", json_schema_extra=_LIVE
    )
    template: Template = Field(
        default=Template.model_construct(), description="The process.", json_schema_extra=changes(Change.TEMPLATE)
    )
    restart: Restart = Field(
        default=Restart.model_construct(),
        description="What follows an end: {ref: NAME}, or a policy.",
        json_schema_extra=_LIVE,
    )
    restart_budget: RestartBudget | None = Field(
        default=None, description="Restarts of all workers together; absent: no limit.", json_schema_extra=_LIVE
    )
    strategy: Strategy = Field(
        default=Strategy.model_construct(), description="How a changed template is rolled out.", json_schema_extra=_LIVE
    )
    depends_on: list[Dependency] = Field(
        default=[],
        max_length=100,
        description="What must be there before it is started; it is stopped before that.",
        json_schema_extra=_LIVE,
    )
    locks: list[LockUse] = Field(
        default=[],
        max_length=100,
        description="Held by each worker from before its start until nothing of it lives.",
        json_schema_extra=changes(Change.TEMPLATE),
    )
    tasks: Tasks | None = Field(
        default=None, description="Present: the replicas are slots for tasks.", json_schema_extra=_LIVE
    )

    @property
    def most(self) -> int:
        """The most workers or slots that it can have."""
        return self.replicas if self.autoscale is None else self.autoscale.max

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        if self.autoscale is not None:
            found.pop("replicas", None)
        return found

    @property
    def warm(self) -> bool:
        """Whether its workers take tasks."""
        return self.tasks is not None and self.tasks.mode is Mode.WARM

    @property
    def slots(self) -> bool:
        """Whether its replicas are slots for tasks that bring their command, and it has no workers."""
        return self.tasks is not None and self.tasks.mode is Mode.PER_TASK


class TaskCounts(Model):
    """Tasks of a pool by state."""

    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    dead_lettered: int = 0
    expired: int = 0
    cancelled: int = 0
    unknown: int = 0


class Rollout(Model):
    """How far a rollout is."""

    template_hash: str
    began_at: str = Field(description="When it began, RFC 3339.")
    moved_at: str = Field(description="When it last moved, RFC 3339.")
    failed: str = Field(default="", description="Why it stopped; empty while it may go on.")


class PoolStatus(Model):
    """What is so."""

    observed_generation: int = 0
    desired_replicas: int = Field(default=0, description="What is wanted now: replicas, or what autoscale has chosen.")
    scaled_at: Moment | None = Field(default=None, description="When autoscale last took a step.")
    wanted_lately: tuple[Wanted, ...] = Field(default=(), description="What CPU asked for, before fewer are taken.")
    replicas: int = 0
    running_replicas: int = Field(default=0, description="Workers that have a process, ready or not.")
    ready_replicas: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    restarts: int = 0
    template_hash: str = ""
    rollout: Rollout | None = None
    conditions: tuple[Condition, ...] = ()
    tasks: TaskCounts | None = None
    restarts_asked: int = Field(default=0, description="How often a rolling restart was asked for.")
    watched: dict[str, str] = Field(default={}, description="Digests of the files that are watched.")


class Pool(Object):
    """So many workers of one template, or so many slots for tasks."""

    plural: ClassVar[str] = "pools"
    writable: ClassVar[bool] = True

    kind: Literal["Pool"] = "Pool"
    metadata: Metadata
    spec: PoolSpec
    status: PoolStatus = PoolStatus.model_construct()

    @property
    def replicas(self) -> int:
        """How many workers or slots it has: as declared, or as its autoscaler has decided."""
        bounds = self.spec.autoscale
        return self.spec.replicas if bounds is None else min(max(self.status.desired_replicas, bounds.min), bounds.max)


def template_fields(model: Model, inherited: Change = Change.TEMPLATE) -> dict[str, Any]:
    """The fields of a model whose change replaces workers, as they are written in a manifest."""
    found: dict[str, Any] = {}
    dumped = model.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=model.sparse)
    for name, field in type(model).model_fields.items():
        extra = field.json_schema_extra
        how = Change(str(extra["x-change"])) if isinstance(extra, dict) and "x-change" in extra else inherited
        alias = field.alias or name
        value = getattr(model, name)
        if isinstance(value, Model):
            inner = template_fields(value, how)
            if inner:
                found[alias] = inner
        elif how is Change.TEMPLATE and alias in dumped:
            found[alias] = dumped[alias]
    return found


def template_hash(template: Template) -> str:
    """Ten hexadecimal digits that change exactly when a field changes that workers are replaced for."""
    known = _HASHES.get(id(template))
    if known is not None and known[0] is template:
        return known[1]
    if len(_HASHES) >= _HASHES_KEPT:
        _HASHES.clear()
    text = json.dumps(template_fields(template), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    found = hashlib.sha256(text.encode()).hexdigest()[:10]
    _HASHES[id(template)] = template, found
    return found


_HASHES: dict[int, tuple[Template, str]] = {}
"""Templates never change, and are asked for their hash at each look at their pool."""
_HASHES_KEPT = 4096


def revision_hash(pool: Pool) -> str:
    """The hash workers shall have: that of the template, or another one for each rolling restart that was asked for."""
    hash_, asked = template_hash(pool.spec.template), pool.status.restarts_asked
    if pool.spec.locks:  # who runs without holding them has to be replaced
        hash_ = hashlib.sha256(f"{hash_}+{[use.name for use in pool.spec.locks]}".encode()).hexdigest()[:10]
    if pool.spec.warm:  # the same command with a channel is another process
        hash_ = hashlib.sha256(f"{hash_} {Mode.WARM}".encode()).hexdigest()[:10]
    return hashlib.sha256(f"{hash_}+{asked}".encode()).hexdigest()[:10] if asked else hash_
