"""The read-only view of one moment that a plan gets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from reconciler.controllers.base import Mode, Queue, WorkerLine
from reconciler.controllers.lines import Lines
from reconciler.controllers.tally import Tally
from reconciler.policies.budget import Grant
from reconciler.resources.lock import Lock
from reconciler.resources.meta import Key, Object
from reconciler.resources.pool import Pool, Template
from reconciler.resources.revision import Revision, revision_name
from reconciler.resources.worker import Worker
from reconciler.runtime.budgets import Budgets
from reconciler.runtime.locks import Sessions
from reconciler.runtime.queues import Queues
from reconciler.runtime.warm import Warm
from reconciler.store.base import Store

T = TypeVar("T", bound=Object)


class Gauges(Protocol):
    """What is measured of the machine."""

    def cpu_percent(self, pool: str | None) -> float | None:
        """Of one core for a pool, of all cores for the host; None: it is not known."""
        ...


class StoreWorld:
    """The store and the queues as they stand; nothing is copied, and nothing can be changed through it."""

    def __init__(self, store: Store, queues: Queues, budgets: Budgets, sessions: Sessions, warm: Warm) -> None:
        self._store = store
        self.warm = warm
        self._queues = queues
        self._budgets = budgets
        self._sessions = sessions
        self.gauges: Gauges | None = None
        """What is measured; None: nothing is."""
        self.mode = Mode.RUNNING
        self._dependents: dict[str, list[str]] | None = None
        self._lockers: dict[str, list[str]] | None = None
        self._tallies: dict[str, Tally] = {}
        store.on_change(self._object_changed)

    def get(self, model: type[T], name: str) -> T | None:
        """One object."""
        return self._store.get(model, name)

    def owned_by(self, owner: Key, model: type[T]) -> Sequence[T]:
        """What belongs to it; workers by ordinal."""
        return self._store.owned_by(owner, model)

    def tally(self, pool: str) -> Tally:
        """Its workers, counted by what they have in common; kept from one plan to the next."""
        tally = self._tallies.get(pool)
        if tally is None:
            tally = self._tallies[pool] = Tally(self._store.owned_by(Key("Pool", pool), Worker))
        return tally

    def recount(self) -> None:
        """Every tally is counted anew when it is asked for next."""
        self._tallies.clear()

    def dependents(self, pool: str) -> Sequence[Pool]:
        """The pools that depend on this one."""
        if self._dependents is None:
            self._dependents = {}
            for one in self._store.all(Pool):
                for dependency in one.spec.depends_on:
                    self._dependents.setdefault(dependency.name, []).append(one.name)
        names = self._dependents.get(pool, ())
        return [found for name in names if (found := self._store.get(Pool, name)) is not None]

    def cpu_percent(self, pool: str | None = None) -> float | None:
        """What a pool, or the host, uses; None: it is not known."""
        return None if self.gauges is None else self.gauges.cpu_percent(pool)

    def locks(self) -> Sequence[Lock]:
        """All of them."""
        return self._store.all(Lock)

    def pools_with_lock(self, lock: str) -> Sequence[Pool]:
        """The pools whose workers hold it while they run."""
        if self._lockers is None:
            self._lockers = {}
            for one in self._store.all(Pool):
                for use in one.spec.locks:
                    self._lockers.setdefault(use.name, []).append(one.name)
        names = self._lockers.get(lock, ())
        return [found for name in names if (found := self._store.get(Pool, name)) is not None]

    def lease_left_s(self, id: str, lease_s: float) -> float:
        """How long the lease of that session lasts still; not above zero: it is over."""
        return self._sessions.left_s(id, lease_s)

    def token_floor(self, lock: str) -> int:
        """The largest token of that lock that was ever given."""
        return self._sessions.tokens.floor(lock)

    def pools_changed(self) -> None:
        """Some pool's spec is another: who depends on whom, and on which locks, is looked up anew."""
        self._dependents = self._lockers = None

    def template(self, pool: str, template_hash: str) -> Template | None:
        """The template a pool has, or had, under that hash."""
        revision = self._store.get(Revision, revision_name(pool, template_hash))
        return None if revision is None else revision.spec.template

    def queue(self, pool: str) -> Queue:
        """The pool's tasks."""
        return self._queues.of(pool)

    def lines(self, pool: str) -> Lines:
        """What the workers of a warm pool have been given."""
        return self.warm.of(pool)

    def line(self, worker: str) -> WorkerLine | None:
        """What a warm worker has been given; None of any other."""
        return self.warm.line(worker)

    def grant(self, pool: Pool, seed: str, now: datetime) -> Grant:
        """When the budgets of the pool and of the host allow the next restart of one of its workers."""
        return self._budgets.grant(pool, seed, now)

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if isinstance(old, Pool) and new is None:
            self._tallies.pop(old.name, None)
        changed = new if new is not None else old
        tally = self._tallies.get(changed.spec.pool) if isinstance(changed, Worker) else None
        if tally is None:
            return
        if isinstance(old, Worker) and isinstance(new, Worker):
            tally.change(old, new)
        elif isinstance(new, Worker):
            tally.add(new)
        elif isinstance(old, Worker):
            tally.remove(old)
