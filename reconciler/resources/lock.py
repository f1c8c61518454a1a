"""A Lock: so many holders at once, each with a token that no other holder has had, larger than all before.

    lock run, Client.lock   ->  a lease: renewed by its holder, over when it is not, or when its process has ended
    locks: of a pool        ->  held by a worker's process from before its start until nothing of it lives

Who comes first is served first. The token is what makes it more than advice: a resource that refuses tokens smaller than
the largest it has seen is safe from a holder that was stopped and does not know yet that it holds the lock no longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from reconciler.resources.meta import Change, Metadata, Model, Name, Object, changes
from reconciler.resources.units import Duration, Moment, format_duration

SHORTEST_LEASE_S, LONGEST_LEASE_S = 1.0, 86_400.0
SHORTEST_RETRY_S = 0.05
MARGIN = 0.1
"""Of the lease: so much must lie between the holder's deadline and its end, for clocks do not run alike."""

TOKEN = "RECONCILER_LOCK_TOKEN"
"""The variable that tells a holder its token; with several locks each has one more, with its name in capitals."""


def token_variable(lock: str) -> str:
    """The variable with the token of one lock among several."""
    return f"{TOKEN}_{lock.upper().replace('-', '_')}"


class LockUse(Model):
    """A lock that has to be held while something runs."""

    name: Name = Field(description="Which Lock.")
    timeout_s: Duration | None = Field(
        default=None,
        description="Not had within this time, the start has failed; absent: it waits.",
        json_schema_extra=changes(Change.LIVE),
    )


class LockSpec(Model):
    """How many may hold it, and how soon a holder that says nothing has lost it."""

    max_holders: int = Field(default=1, ge=1, le=10_000, description="So many at once.")
    lease_duration_s: Duration = Field(default=15.0, description="Not renewed for this long, it is another's.")
    renew_deadline_s: Duration = Field(
        default=10.0, description="A holder that could not renew for this long counts it as lost; less than the lease."
    )
    retry_period_s: Duration = Field(default=2.0, description="How often a holder renews; less than the deadline.")


class Waiter(Model):
    """Somebody who wants the lock."""

    id: str = Field(description="A session, or the start of a worker.")
    name: str = Field(description="For people: worker/web-0, or the user and the command.")
    leased: bool = Field(
        default=True, description="Must be renewed; otherwise it lasts as long as the worker's process."
    )
    within: tuple[str, ...] = Field(default=(), description="Those that have to wait until this one is done.")
    pid: int | None = Field(default=None, description="Over when this process has ended.")
    born: int | None = Field(default=None, description="Its start in clock ticks since boot: a pid may come again.")
    since: Moment


class Holder(Waiter):
    """Somebody who has it; `since` is when it was given."""

    token: int = Field(description="Larger than every token of this lock before.")


class LockStatus(Model):
    """Who has it, and who waits in which order."""

    observed_generation: int = 0
    token: int = Field(default=0, description="The largest token given.")
    holders: tuple[Holder, ...] = ()
    waiting: tuple[Waiter, ...] = ()
    deadlock: str = Field(default="", description="The circle in which its holders and waiters wait for each other.")

    def holder(self, id: str) -> Holder | None:
        """The holder of that id."""
        return next((one for one in self.holders if one.id == id), None)

    def waiter(self, id: str) -> Waiter | None:
        """The waiter of that id."""
        return next((one for one in self.waiting if one.id == id), None)


class Lock(Object):
    """Mutual exclusion with fencing tokens, for pools and for any command."""

    plural: ClassVar[str] = "locks"
    writable: ClassVar[bool] = True

    kind: Literal["Lock"] = "Lock"
    metadata: Metadata
    spec: LockSpec
    status: LockStatus = LockStatus.model_construct()


MADE_BY_USE = "reconciler/made-by-use"
"""The annotation of a lock that nobody declared: `lock run` has made it, and it goes with its last holder."""


def findings(spec: LockSpec) -> Iterator[tuple[str, str, str, str]]:
    """What its times must be to each other: (rule, field, message, help)."""
    lease, deadline, retry = (
        format_duration(s) for s in (spec.lease_duration_s, spec.renew_deadline_s, spec.retry_period_s)
    )
    most_s = spec.lease_duration_s * (1 - MARGIN)
    if not SHORTEST_LEASE_S <= spec.lease_duration_s <= LONGEST_LEASE_S:
        yield "range", "leaseDuration", f"a lease of {lease}; it lasts 1s to 1d", "write leaseDuration: 15s"
    elif spec.renew_deadline_s > most_s:
        message = f"{deadline}: a holder would go on when the lease is another's"
        help = f"at most {format_duration(most_s)}, nine tenths of leaseDuration: clocks differ"
        yield "range", "renewDeadline", message, help
    elif spec.retry_period_s > spec.renew_deadline_s / 2:
        message = f"{retry}: one renewal that fails would lose the lock"
        yield "range", "retryPeriod", message, "at most half of renewDeadline"
    if spec.retry_period_s < SHORTEST_RETRY_S:
        yield "range", "retryPeriod", f"{retry}: renewing that often is a busy loop", "at least 50ms"
