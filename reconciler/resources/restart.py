"""When an ended worker is started again, and after what wait."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from reconciler.resources.meta import Model
from reconciler.resources.units import Duration


class Policy(StrEnum):
    """Whether an end is followed by a start."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class Backoff(Model):
    """The wait before a restart: the first at once, then `initial`, doubled up to `max`, spread by `jitter`."""

    initial_s: Duration = Field(default=1.0, description="Wait before the second restart in a row.")
    factor: float = Field(default=2.0, ge=1, le=100, description="Each further wait is that much longer.")
    max_s: Duration = Field(default=60.0, description="No wait is longer.")
    jitter: float = Field(default=0.1, ge=0, le=1, description="Spread to both sides, as a share of the wait.")
    reset_after_s: Duration = Field(default=600.0, description="A run of this length clears the count.")


class RestartPolicySpec(Model):
    """The restart rules of a pool, written inline as `restart`."""

    policy: Policy = Field(default=Policy.ALWAYS, strict=False, description="Always, OnFailure or Never.")
    max_restarts: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Restarts of one worker within `window`, then Failed; absent: for ever.",
    )
    window_s: Duration = Field(default=600.0, description="The time within which `maxRestarts` counts.")
    backoff: Backoff = Field(default=Backoff(), description="How long to wait.")
