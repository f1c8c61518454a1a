"""How many restarts a pool and a host may have, so that an outage does not become a storm.

    pool   at most maxRestarts within any window            3 within 1m:   |||.....................|||
    host   a token bucket: a burst at once, then a rate     200, 50/s:     ||||||||| | | | | | | |

Who has to wait gets a moment of its own, spread by its seed: nobody has to ask again, and no two come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from reconciler.policies.backoff import share
from reconciler.resources.restart import RestartBudget
from reconciler.resources.units import format_duration
from reconciler.resources.words import many


class HostBudget(NamedTuple):
    """Restarts of this host: so many at once, then so many a second."""

    rate: float = 50.0
    burst: int = 200

    def in_words(self) -> str:
        """As a person is told."""
        return f"the start budget of this host ({self.burst} at once, then {self.rate:g} a second)"

    @property
    def every(self) -> timedelta:
        """The distance between two restarts once the burst is spent."""
        return timedelta(seconds=1 / self.rate)


class Grant(NamedTuple):
    """When a restart may be; `why` it is not at once, empty if it is."""

    at: datetime
    why: str = ""


def within_window(granted: Sequence[datetime], budget: RestartBudget, now: datetime) -> datetime:
    """The first moment before which fewer than `maxRestarts` of these lie within the window; `granted` in order."""
    if len(granted) < budget.max_restarts:
        return now
    return max(now, granted[-budget.max_restarts] + timedelta(seconds=budget.window_s))


def from_bucket(full_at: datetime, host: HostBudget, now: datetime) -> datetime:
    """The first moment at which the bucket has a token; it is full again at `full_at`."""
    return max(now, full_at - (host.burst - 1) * host.every)


def taken(full_at: datetime, host: HostBudget, at: datetime) -> datetime:
    """When the bucket is full again after a token is taken at that moment."""
    return max(full_at, at) + host.every


def grant(
    granted: Sequence[datetime],
    budget: RestartBudget | None,
    full_at: datetime,
    host: HostBudget,
    seed: str,
    now: datetime,
) -> Grant:
    """When the next restart of a pool may be, by its own budget and its host's."""
    at, why = now, ""
    if budget is not None:
        at = within_window(granted, budget, now)
        limit = f"{many(budget.max_restarts, 'restart')} within {format_duration(budget.window_s)}"
        why = f"the restart budget of its pool ({limit}) is spent" if at > now else ""
    of_host = from_bucket(full_at, host, now)
    if of_host > at:
        at, why = of_host, f"{host.in_words()} is spent"
    return Grant(at + share(seed) * host.every, why) if at > now else Grant(now)
