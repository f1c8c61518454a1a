"""The workers of one pool, counted by what they have in common: what a plan asks of a thousand, without looking at each.

    Worker changes: old -> new      ->  one less of what it was, one more of what it is
    a thousand that are ready       ->  one entry, 1,000 times

Contract: after any changes a tally says the same as one counted anew from the workers. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from reconciler.resources.worker import Process, State, Worker

TROUBLED = frozenset({State.BACKOFF, State.FAILED, State.STOP_STUCK, State.UNKNOWN})
"""States that a person may have to do something about."""


class Alike(NamedTuple):
    """What a pool's plan wants to know of a worker."""

    wanted: str
    """The hash of the template it is to have."""
    running: str
    """That of the last start."""
    state: State
    alive: bool
    """Something of it may run."""
    ready: bool
    leaving: bool
    stands_by: bool
    waits: bool
    """Its start waits, and it says for what."""

    def serves(self, target: str) -> bool:
        """Whether it has that template and does its work, or has done it, or lacks nothing but a lock."""
        if self.stands_by:
            return self.wanted == target
        return self.running == target and (self.ready or self.state is State.COMPLETED)


class Tally:
    """How many workers are alike, and which of them are in trouble."""

    def __init__(self, workers: Iterable[Worker] = ()) -> None:
        self.alike: Counter[Alike] = Counter()
        self.restarts = 0
        self.ordinals: list[int] = []
        """Of all of them, ascending."""
        self.troubled: list[tuple[int, str]] = []
        """(ordinal, name) of those in trouble, ascending."""
        for worker in sorted(workers, key=lambda worker: worker.spec.ordinal):
            self.add(worker)

    def add(self, worker: Worker) -> None:
        """It is there from now on."""
        status, ordinal = worker.status, worker.spec.ordinal
        self.alike[_of(worker)] += 1
        self.restarts += status.restarts
        insort(self.ordinals, ordinal)
        if status.state in TROUBLED:
            insort(self.troubled, (ordinal, worker.name))

    def remove(self, worker: Worker) -> None:
        """It is gone, or stands otherwise than it did."""
        status, ordinal = worker.status, worker.spec.ordinal
        alike = _of(worker)
        self.alike[alike] -= 1
        if not self.alike[alike]:
            del self.alike[alike]
        self.restarts -= status.restarts
        del self.ordinals[bisect_left(self.ordinals, ordinal)]
        if status.state in TROUBLED:
            del self.troubled[bisect_left(self.troubled, (ordinal, worker.name))]

    def change(self, old: Worker, new: Worker) -> None:
        """It stands otherwise than it did, in the same slot."""
        if old.spec.ordinal != new.spec.ordinal:
            self.remove(old)
            self.add(new)
            return
        was, is_ = _of(old), _of(new)
        if was != is_:
            self.alike[was] -= 1
            if not self.alike[was]:
                del self.alike[was]
            self.alike[is_] += 1
        self.restarts += new.status.restarts - old.status.restarts
        before, after = old.status.state in TROUBLED, new.status.state in TROUBLED
        if before is not after:
            place = (old.spec.ordinal, old.name)
            if after:
                insort(self.troubled, place)
            else:
                del self.troubled[bisect_left(self.troubled, place)]

    def fills(self, replicas: int) -> bool:
        """Whether each of so many slots has its worker, none of which is wanted gone, and there are no others."""
        ordinals = self.ordinals
        if len(ordinals) != replicas or (ordinals and (ordinals[0], ordinals[-1]) != (0, replicas - 1)):
            return False
        return not any(alike.leaving for alike in self.alike)

    @property
    def hashes(self) -> set[str]:
        """Of every template that one of them has or is to have."""
        return {hash_ for alike in self.alike for hash_ in (alike.wanted, alike.running)}


def _of(worker: Worker) -> Alike:
    status = worker.status
    return Alike(
        wanted=worker.spec.template_hash,
        running=status.template_hash,
        state=status.state,
        alive=status.process is not Process.NONE,
        ready=status.ready,
        leaving=worker.metadata.deleted_at is not None,
        stands_by=status.stands_by,
        waits=status.state is State.PENDING and bool(status.message) and not status.ready,
    )
