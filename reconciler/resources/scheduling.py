"""Which waiting task of a pool goes next.

kind: SchedulingPolicy        named, for many pools; a pool says `tasks: {scheduling: {ref: fair-by-team}}`
scheduling: {type: Priority}  or has its own

FIFO                   in the order of submission
Priority               bands by `priority`; a higher band always goes first, unless what waits ages
MultiLevelFeedback     what has used up its quantum of CPU goes behind what has not
FairShare              the tenant that has used least, for its weight, goes next
EarliestDeadlineFirst  the nearest `deadline` goes first; what can no longer meet it does not begin
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from reconciler.resources.meta import Metadata, Model, Name, Object
from reconciler.resources.units import Duration

MAX_PRIORITY = 255
DEFAULT_PRIORITY = 100
MAX_TENANT = 63

Tenant = Annotated[str, Field(min_length=1, max_length=MAX_TENANT, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A word for who or what a task is for."""

Weight = Annotated[float, Field(gt=0, le=1_000_000)]


class SchedulingType(StrEnum):
    """The order."""

    FIFO = "FIFO"
    PRIORITY = "Priority"
    MULTI_LEVEL_FEEDBACK = "MultiLevelFeedback"
    FAIR_SHARE = "FairShare"
    EARLIEST_DEADLINE_FIRST = "EarliestDeadlineFirst"


class Bands(Model):
    """The priorities at which the high and the normal band begin."""

    high: int = Field(default=200, ge=0, le=MAX_PRIORITY, description="From here on: ordered by priority.")
    normal: int = Field(default=100, ge=0, le=MAX_PRIORITY, description="From here on: FIFO, before what is below.")


class Aging(Model):
    """What waits gains priority, so that nothing starves."""

    every_s: Duration = Field(default=30.0, description="For each such time it has waited ...")
    points: int = Field(default=1, ge=1, le=MAX_PRIORITY, description="... it gains so many points of priority.")


class Demotion(StrEnum):
    """What happens to a task that has used up its quantum."""

    QUEUE_ORDER = "QueueOrder"
    """Its next try, and new tasks of its tenant, wait behind others."""
    CPU_WEIGHT = "CPUWeight"
    """And while it runs it gets less CPU than others."""
    SUSPEND = "Suspend"
    """And while it runs it stands still as long as others of a higher level need its slot."""


class OnMiss(StrEnum):
    """What becomes of a task that cannot meet its deadline any longer."""

    EXPIRE = "Expire"
    RUN = "Run"


class Admission(StrEnum):
    """What happens to a submission whose deadline the queue before it will not let it meet."""

    OFF = "Off"
    WARN = "Warn"
    REJECT = "Reject"


class SchedulingPolicySpec(Model):
    """Which task goes next. Fields beside `type` belong to one type each."""

    type: SchedulingType = Field(
        default=SchedulingType.FIFO,
        strict=False,
        description="FIFO, Priority, MultiLevelFeedback, FairShare or EarliestDeadlineFirst.",
    )
    bands: Bands = Field(default=Bands.model_construct(), description="Priority: where bands begin.")
    aging: Aging | None = Field(default=None, description="Priority: what waits gains points; absent: it does not.")
    quanta: list[Duration] = Field(
        default=[0.1, 0.5, 2.0, 10.0],
        min_length=1,
        max_length=16,
        description="MultiLevelFeedback: the CPU time of each level; the last level has no end.",
    )
    boost_interval_s: Duration = Field(
        default=30.0, description="MultiLevelFeedback: so often everything goes back to the first level; 0s: never."
    )
    demotion: Demotion = Field(
        default=Demotion.QUEUE_ORDER,
        strict=False,
        description="MultiLevelFeedback: QueueOrder: its next try, and new tasks of its tenant, wait behind others; CPUWeight: "
        "while it runs, too, it gets less CPU; Suspend: while it runs, too, it is stopped when a task of a higher level waits "
        "for its slot, and goes on when one is free.",
    )
    key: Literal["tenant", "key"] = Field(default="tenant", description="FairShare: whose shares: tenant or key.")
    weights: dict[Tenant, Weight] = Field(
        default={}, max_length=10_000, description="FairShare: who has twice the weight gets twice the CPU."
    )
    default_weight: Weight = Field(default=1.0, description="FairShare: of those that are not listed.")
    on_miss: OnMiss = Field(
        default=OnMiss.EXPIRE,
        strict=False,
        description="EarliestDeadlineFirst: a task that is too late ends Expired, or runs all the same (Run).",
    )
    admission: Admission = Field(
        default=Admission.OFF,
        strict=False,
        description="EarliestDeadlineFirst: a submission that will be too late is taken (Off), noted (Warn) or refused (Reject).",
    )
    estimate_s: Duration | None = Field(
        default=None, description="EarliestDeadlineFirst: how long a task runs; absent: as long as tasks did so far."
    )

    @property
    def demotes_what_runs(self) -> bool:
        """Whether the CPU time of running tasks matters while they run."""
        return self.type is SchedulingType.MULTI_LEVEL_FEEDBACK and self.demotion is not Demotion.QUEUE_ORDER

    @property
    def suspends(self) -> bool:
        """Whether running tasks are stopped while others go before them."""
        return self.type is SchedulingType.MULTI_LEVEL_FEEDBACK and self.demotion is Demotion.SUSPEND

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        theirs = _ALL_OPTIONS - set(_OPTIONS[self.type])
        aliases = {(type(self).model_fields[name].alias or name) for name in theirs} | theirs
        return {name: value for name, value in dump(self).items() if name not in aliases}


_OPTIONS: dict[SchedulingType, tuple[str, ...]] = {
    SchedulingType.FIFO: (),
    SchedulingType.PRIORITY: ("bands", "aging"),
    SchedulingType.MULTI_LEVEL_FEEDBACK: ("quanta", "boost_interval_s", "demotion"),
    SchedulingType.FAIR_SHARE: ("key", "weights", "default_weight"),
    SchedulingType.EARLIEST_DEADLINE_FIRST: ("on_miss", "admission", "estimate_s"),
}
_ALL_OPTIONS = {name for names in _OPTIONS.values() for name in names}


class Scheduling(SchedulingPolicySpec):
    """A SchedulingPolicy by its name (`ref`), or one written here."""

    model_config = ConfigDict(json_schema_extra={"dependencies": {"ref": {"maxProperties": 1}}})

    ref: Name | None = Field(default=None, description="The name of a SchedulingPolicy; nothing else stands beside it.")

    @model_serializer(mode="wrap")
    def _by_name(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self.ref is not None:
            return {"ref": self.ref}
        return SchedulingPolicySpec._as_written(self, dump)


class Problem(NamedTuple):
    """What is wrong with a policy: the rule, the fields below it, the words."""

    rule: str
    field: tuple[str | int, ...]
    message: str
    help: str


def findings(spec: SchedulingPolicySpec) -> Iterator[Problem]:
    """What a policy's fields must be to each other."""
    named = {name: type(spec).model_fields[name].alias or name for name in type(spec).model_fields}
    if isinstance(spec, Scheduling) and spec.ref is not None:
        beside = sorted(named[name] for name in spec.model_fields_set - {"ref"})
        if beside:
            message = f"ref names a SchedulingPolicy, so {', '.join(beside)} cannot stand beside it"
            yield Problem("union", (), message, "remove ref, or all the rest")
        return
    for name in sorted((spec.model_fields_set & _ALL_OPTIONS) - set(_OPTIONS[spec.type])):
        (whose,) = (type_ for type_, names in _OPTIONS.items() if name in names)
        message = f"{named[name]} belongs to type {whose}, this is {spec.type}"
        yield Problem("union", (named[name],), message, f"write type: {whose}, or remove {named[name]}")
    if spec.bands.normal >= spec.bands.high:
        message = f"the normal band begins at {spec.bands.normal}, which is not below the high one, {spec.bands.high}"
        yield Problem("range", ("bands",), message, "write bands: {high: 200, normal: 100}")
    if spec.aging is not None and spec.aging.every_s <= 0:
        yield Problem("range", ("aging", "every"), "nothing can age in no time", "write every: 30s")
    for index, quantum_s in enumerate(spec.quanta):
        if quantum_s <= 0:
            yield Problem("range", ("quanta", index), "a quantum of nothing", "write quanta: [100ms, 500ms, 2s, 10s]")


class SchedulingPolicyStatus(Model):
    """What is so."""

    observed_generation: int = 0


class SchedulingPolicy(Object):
    """An order of tasks under a name, for any number of pools."""

    plural: ClassVar[str] = "schedulingpolicies"
    writable: ClassVar[bool] = True

    kind: Literal["SchedulingPolicy"] = "SchedulingPolicy"
    metadata: Metadata
    spec: SchedulingPolicySpec
    status: SchedulingPolicyStatus = SchedulingPolicyStatus.model_construct()
