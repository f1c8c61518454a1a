"""A Configuration: the daemon's own settings, given to `up --config FILE` and never part of a source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from reconciler.resources.meta import Change, Metadata, Model, Object, changes


class WatchedSource(Model):
    """A directory of manifests, or one manifest."""

    path: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4095)] = Field(description="An absolute path.")
    prune: bool = Field(default=False, description="Delete what it no longer declares.")


class StartBudget(Model):
    """Restarts of this host, so that a thousand crashed workers do not come back in one second."""

    rate: float = Field(default=50.0, ge=0.1, le=10_000, description="So many a second.")
    burst: int = Field(default=200, ge=1, le=100_000, description="So many at once, before that.")


class ConfigurationSpec(Model):
    """What is wanted of the daemon. Sources need another `up`; the rest applies at SIGHUP."""

    sources: list[WatchedSource] = Field(default=[], max_length=100, description="What is watched, beside `up PATH`.")
    start_budget: StartBudget = Field(
        default=StartBudget(), description="How fast crashed workers come back.", json_schema_extra=changes(Change.LIVE)
    )


class Configuration(Object):
    """The daemon's own settings: `up --config FILE`."""

    plural: ClassVar[str] = "configurations"

    kind: Literal["Configuration"] = "Configuration"
    metadata: Metadata
    spec: ConfigurationSpec
