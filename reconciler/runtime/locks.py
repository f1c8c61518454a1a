"""The sessions that hold locks or wait for them: who they are, and when each was last heard of.

    ask      -> to the end of the line       renew    -> heard of now
    release  -> out, if id and token agree   ended    -> out: its process is gone, nobody need wait for the lease

Who holds what is in the status of the Lock, durable; when a session was last heard of is known to this process only. The
next controller gives every lease its whole length anew before it gives the lock to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from reconciler.clock import Clock
from reconciler.coordination import lease, waits
from reconciler.coordination.tokens import Tokens
from reconciler.errors import Deadlock, LockLost, NotFound, Refused
from reconciler.resources.event import event
from reconciler.resources.lock import MADE_BY_USE, Holder, Lock, LockSpec, Waiter
from reconciler.resources.meta import Key, Metadata
from reconciler.store.base import Store


class Ends(Protocol):
    """Sees the end of a session's process."""

    def watch(self, id: str, pid: int, born_: int) -> None:
        """Its end has to be told by `ended`."""
        ...

    def forget(self, id: str) -> None:
        """Its end is of no interest any more."""
        ...


class Sessions:
    """The only writer of who asks for a lock; who gets it is planned."""

    def __init__(self, store: Store, clock: Clock, tokens: Tokens | None = None) -> None:
        self.tokens = tokens or Tokens()
        self._ends: Ends | None = None
        self._store = store
        self._clock = clock
        self._began_s = clock.monotonic()
        self._heard_s: dict[str, float] = {}
        self._sequence: dict[str, int] = {}
        if store.rebooted:  # no process of before lives, so no lease of before holds
            for lock in store.all(Lock):
                gone = [one.id for one in (*lock.status.holders, *lock.status.waiting) if one.leased]
                self._take_out(lock, gone)

    def left_s(self, id: str, lease_s: float) -> float:
        """How long the lease of a session lasts still."""
        return self._heard_s.get(id, self._began_s) + lease_s - self._clock.monotonic()

    def watch_with(self, ends: Ends) -> None:
        """From now on the ends of processes are seen, also of those that the controller before knew."""
        self._ends = ends
        for lock in self._store.all(Lock):
            for one in (*lock.status.holders, *lock.status.waiting):
                self._watch(one)

    def _watch(self, one: Waiter) -> None:
        if one.pid is not None and self._ends is not None:
            self._ends.watch(one.id, one.pid, one.born or 0)

    def ask(self, name: str, waiter: Waiter, now: datetime) -> None:
        """Puts it at the end of the line, once; a lock that nobody has declared is made. Raises Deadlock, Refused."""
        lock = self._store.get(Lock, name)
        if lock is None:
            metadata = Metadata(name=name, annotations={MADE_BY_USE: "true"})
            made = self._store.create(Lock(metadata=metadata, spec=LockSpec()))
            assert isinstance(made, Lock)
            lock = made
        if lock.metadata.deleted_at is not None:
            raise Refused(f"{lock.key} is being deleted", "wait until nobody holds it")
        self._heard_s[waiter.id] = self._clock.monotonic()
        status = lock.status
        if status.holder(waiter.id) is not None or status.waiter(waiter.id) is not None:
            return
        asked = lock.changed(status=status.changed(waiting=(*status.waiting, waiter)))
        others = [one for one in self._store.all(Lock) if one.name != name]
        if waiter.id in waits.deadlocked([*others, asked]):
            raise Deadlock(
                f"this wait would never end: {waits.circle([*others, asked], waiter.id)}",
                "take locks in one order everywhere, and none twice",
            )
        self._watch(waiter)
        self._store.set_status(lock.key, asked.status)

    def hear(self, name: str, id: str) -> bool:
        """The session is there; whether it holds the lock or waits for it."""
        lock = self._store.get(Lock, name)
        if lock is None or (lock.status.holder(id) is None and lock.status.waiter(id) is None):
            return False
        self._heard_s[id] = self._clock.monotonic()
        return True

    def holder(self, name: str, id: str) -> Holder | None:
        """The session's hold of the lock, if it has it."""
        lock = self._store.get(Lock, name)
        return None if lock is None else lock.status.holder(id)

    def renew(self, name: str, id: str, token: int, sequence: int) -> None:
        """The lease begins anew; a renewal that comes after a later one changes nothing. Raises LockLost."""
        lock = self._store.get(Lock, name)
        held = None if lock is None else lock.status.holder(id)
        if lock is None or held is None or held.token != token or self.left_s(id, lock.spec.lease_duration_s) <= 0:
            raise LockLost(f"lock/{name} is no longer held with token {token}", "stop what it protects")
        if sequence > self._sequence.get(id, 0):
            self._sequence[id] = sequence
            self._heard_s[id] = self._clock.monotonic()

    def release(self, name: str, id: str, token: int | None = None) -> bool:
        """Gives it back, or leaves the line; whether that was theirs to do."""
        lock = self._store.get(Lock, name)
        if lock is None:
            raise NotFound(f"there is no lock/{name}", "reconciler lock status lists them")
        status = lease.without(lock.status, id, token)
        if status is lock.status or status == lock.status:
            return False
        self._forget(id)
        self._store.set_status(lock.key, status)
        return True

    def ended(self, id: str, now: datetime) -> None:
        """The session's process has ended."""
        for lock in self._store.all(Lock):
            held = lock.status.holder(id)
            if held is not None:
                message = f"{held.name} has ended without giving token {held.token} back: it is free"
                self._store.add_event(event(lock.key, "HolderEnded", message, now))
            self._take_out(lock, [id])

    def deadlocks(self) -> list[str]:
        """What nobody in it can end."""
        return [f"deadlock: {lock.status.deadlock}" for lock in self._store.all(Lock) if lock.status.deadlock]

    def changed(self, lock: Lock) -> None:
        """Notes a token that is about to be given."""
        self.tokens.given(lock.name, lock.status.token)

    def _take_out(self, lock: Lock, ids: Sequence[str]) -> None:
        status = lock.status
        for id in ids:
            status = lease.without(status, id)
            self._forget(id)
        self._store.set_status(Key("Lock", lock.name), status)

    def _forget(self, id: str) -> None:
        self._heard_s.pop(id, None)
        self._sequence.pop(id, None)
        if self._ends is not None:
            self._ends.forget(id)
