"""The restarts that pools and this host have had, and those granted for later: what the budgets are measured by.

In memory only. Each restart and each grant stands in its worker's status, and after a restart of the controller the
account is made anew from those; what stands there for a moment that has not come was written before the clock was set back.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from reconciler.controllers.restart import LONGEST_GRANT_S
from reconciler.policies.budget import Grant, HostBudget, grant, taken
from reconciler.resources.pool import Pool
from reconciler.resources.units import from_ms
from reconciler.resources.worker import State, Worker
from reconciler.store.base import Store


class Budgets:
    """The account; `grant` looks, `charge` writes."""

    def __init__(self, store: Store, now: datetime, host: HostBudget = HostBudget()) -> None:  # noqa: B008
        self.host = host
        self._store = store
        self._full_at = from_ms(0)
        self._granted: dict[str, deque[datetime]] = {}
        moments: list[tuple[datetime, str]] = []
        for worker in store.all(Worker):
            moments += ((at, worker.spec.pool) for at in _moments(worker, now))
        for at, pool in sorted(moments):
            self.charge(pool, at)

    def grant(self, pool: Pool, seed: str, now: datetime) -> Grant:
        """When the next restart of the pool may be."""
        granted = self._granted.get(pool.name, ())
        return grant(granted, pool.spec.restart_budget, self._full_at, self.host, seed, now)

    def charge(self, pool: str, at: datetime) -> None:
        """A restart happens, or will happen, at that moment."""
        self._full_at = taken(self._full_at, self.host, at)
        found = self._store.get(Pool, pool)
        budget = found.spec.restart_budget if found is not None else None
        if budget is None:
            self._granted.pop(pool, None)
            return
        granted = self._granted.setdefault(pool, deque())
        granted.append(at)
        while len(granted) > budget.max_restarts:
            granted.popleft()


def _moments(worker: Worker, now: datetime) -> list[datetime]:
    """When a worker has been restarted of late, and when it will be."""
    status = worker.status
    moments = [min(at, now) for at in status.recent_restarts]
    if status.restarts and status.started_at is not None and not moments:
        moments.append(min(status.started_at, now))
    if status.state is State.BACKOFF and status.admitted == status.instance and status.next_start_at is not None:
        moments.append(min(status.next_start_at, now + timedelta(seconds=LONGEST_GRANT_S)))
    return moments
