"""How many workers or slots a pool has when nobody says so: between min and max, by what waits and what is used.

autoscale: {min: 4, max: 64}                                          Backlog: grows and shrinks with what waits
autoscale: {min: 1, max: 8, metrics: [{type: CPU, target: 70}]}       CPU: so many that each uses about 70 % of a core
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from pydantic import Field

from reconciler.resources.meta import Model
from reconciler.resources.units import Moment

MAX_REPLICAS = 10_000


class MetricType(StrEnum):
    """What is looked at."""

    BACKLOG = "Backlog"
    CPU = "CPU"


class Metric(Model):
    """One thing that is looked at; of several the one that wants most decides."""

    type: MetricType = Field(
        default=MetricType.BACKLOG,
        strict=False,
        description="Backlog: grows when pending > 2 x current, shrinks when pending < current / 2; for PerTask"
        " pools. CPU: keeps to `target`; for all.",
    )
    target: float | None = Field(
        default=None, gt=0, le=100_000, description="Of CPU: percent of one core that each shall use on average."
    )


class Autoscale(Model):
    """The bounds, and what decides between them."""

    min: int = Field(default=1, ge=0, le=MAX_REPLICAS, description="Never fewer; 0: none while nothing waits.")
    max: int = Field(ge=1, le=MAX_REPLICAS, description="Never more.")
    metrics: list[Metric] = Field(default=[Metric()], min_length=1, max_length=2, description="What decides.")


class Wanted(Model):
    """What was wanted at one moment."""

    at: Moment
    replicas: int


def findings(scale: Autoscale, tasks: bool, warm: bool) -> Iterator[tuple[str, tuple[str | int, ...], str, str]]:
    """What its fields must be to each other: (rule, path below autoscale, message, help)."""
    if scale.max < scale.min:
        yield "range", ("max",), f"max {scale.max} is less than min {scale.min}", "raise max, or lower min"
    seen: set[MetricType] = set()
    for index, metric in enumerate(scale.metrics):
        path = ("metrics", index)
        if metric.type in seen:
            yield "duplicate-name", (*path, "type"), f"{metric.type} is named twice", "remove one of them"
        seen.add(metric.type)
        if metric.type is MetricType.CPU and metric.target is None:
            yield "missing-field", path, "CPU has no target", "add target: 70, percent of one core for each"
        if metric.type is MetricType.BACKLOG and metric.target is not None:
            yield "value", (*path, "target"), "Backlog has a band of its own and no target", "remove target"
        if metric.type is MetricType.BACKLOG and not tasks:
            if warm:
                yield "value", path, "a Warm pool scales by CPU only", "write metrics: [{type: CPU, target: 70}]"
            else:
                message = "nothing waits in a pool without tasks"
                yield "value", path, message, "write metrics: [{type: CPU, target: 70}], or give it tasks"
