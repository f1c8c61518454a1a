"""When an ended worker is started again, and after what wait.

kind: RestartPolicy         named, for many pools; a pool says `restart: {ref: steady}`
restart: {policy: Always}   or has its own

end -> rules, the first that matches -> Restart | Fail | Stop | Ignore
    -> none does                     -> policy
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from reconciler.resources.meta import Metadata, Model, Name, Object
from reconciler.resources.units import Duration
from reconciler.resources.worker import Reason


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


class RuleAction(StrEnum):
    """What a rule wants after the ends that it matches."""

    RESTART = "Restart"
    """Started again: counted, with its wait."""
    FAIL = "Fail"
    """Not started again: Failed."""
    STOP = "Stop"
    """Not started again: Completed."""
    IGNORE = "Ignore"
    """Started again, and not counted."""


ExitCode = Annotated[int, Field(ge=0, le=255)]

EndSignal = Annotated[
    str,
    Field(
        pattern=r"^SIG(HUP|INT|QUIT|ILL|TRAP|ABRT|BUS|FPE|KILL|USR1|SEGV|USR2|PIPE|ALRM|TERM|STKFLT|XCPU|XFSZ|VTALRM"
        r"|PROF|IO|PWR|SYS)$"
    ),
]
"""A signal that can end a process, by its full name."""


class ExitCodes(Model):
    """Exit codes by what they are, or by what they are not."""

    in_: list[ExitCode] | None = Field(default=None, min_length=1, max_length=256, description="One of these.")
    not_in: list[ExitCode] | None = Field(
        default=None, min_length=1, max_length=256, description="None of these; 0 is matched too unless it is listed."
    )


class Match(Model):
    """Which ends it matches, by exactly one of `exitCodes`, `signals` and `reason`."""

    exit_codes: ExitCodes | None = Field(default=None, description="It ended by itself, with such a code.")
    signals: list[EndSignal] | None = Field(
        default=None, min_length=1, max_length=31, description="A signal ended it that the reconciler did not send."
    )
    reason: Reason | None = Field(
        default=None, strict=False, description="The word of lastExit.reason, such as OOMKilled or ProbeFailed."
    )


class Rule(Match):
    """Which ends it matches, by exactly one of `exitCodes`, `signals` and `reason`, and what follows those."""

    action: RuleAction = Field(
        strict=False,
        description="Restart; Fail: it stays Failed; Stop: it stays Completed; Ignore: start again without counting.",
    )


class RestartPolicySpec(Model):
    """What follows an end of a worker."""

    policy: Policy = Field(
        default=Policy.ALWAYS, strict=False, description="Where no rule matches: Always, OnFailure or Never."
    )
    max_restarts: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Restarts of one worker within `window`, then Failed; absent: for ever.",
    )
    window_s: Duration = Field(default=600.0, description="The time within which `maxRestarts` counts.")
    backoff: Backoff = Field(default=Backoff.model_construct(), description="How long to wait.")
    rules: list[Rule] = Field(default=[], max_length=100, description="The first that matches an end decides.")


class Restart(RestartPolicySpec):
    """A RestartPolicy by its name (`ref`), or one written here."""

    model_config = ConfigDict(json_schema_extra={"dependencies": {"ref": {"maxProperties": 1}}})

    ref: Name | None = Field(default=None, description="The name of a RestartPolicy; nothing else stands beside it.")

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"ref": self.ref} if self.ref is not None else dump(self)


class RestartBudget(Model):
    """How many restarts the workers of one pool may have together; who comes later waits."""

    max_restarts: int = Field(ge=1, le=10_000, description="Restarts of all its workers within `window`.")
    window_s: Duration = Field(default=60.0, description="The time within which `maxRestarts` counts.")


class RestartPolicyStatus(Model):
    """What is so."""

    observed_generation: int = 0


class RestartPolicy(Object):
    """Restart rules under a name, for any number of pools."""

    plural: ClassVar[str] = "restartpolicies"
    writable: ClassVar[bool] = True

    kind: Literal["RestartPolicy"] = "RestartPolicy"
    metadata: Metadata
    spec: RestartPolicySpec
    status: RestartPolicyStatus = RestartPolicyStatus.model_construct()
