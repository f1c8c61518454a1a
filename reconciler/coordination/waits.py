"""Who waits for whom, and whether anybody of them can ever go on.

    a waits for lock/db        held by b, c      goes on when b OR c does
    a is within a-parent       waits for a       goes on when all that is within it does

Whoever is not reached from somebody who runs is in a deadlock. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.resources.lock import Lock


def deadlocked(locks: Sequence[Lock]) -> set[str]:
    """The ids of all that can never go on by themselves."""
    held = {lock.name: [one.id for one in lock.status.holders] for lock in locks}
    full = {lock.name for lock in locks if len(lock.status.holders) >= lock.spec.max_holders}
    waits: dict[str, set[str]] = {}
    inner: dict[str, set[str]] = {}
    for lock in locks:
        for one in lock.status.waiting:
            if lock.name in full:
                waits.setdefault(one.id, set()).add(lock.name)
            for outer in one.within:
                inner.setdefault(outer, set()).add(one.id)
    stuck = set(waits) | set(inner)
    while True:
        free = {
            id
            for id in stuck
            if all(any(holder not in stuck for holder in held[name]) for name in waits.get(id, ()))
            and not inner.get(id, set()) & stuck
        }
        if not free:
            return stuck
        stuck -= free


def circle(locks: Sequence[Lock], first: str = "") -> str:
    """A deadlock in words, from `first` on, or nothing: `A waits for lock/db, held by B; B waits for lock/ui, held by A`."""
    stuck = deadlocked(locks)
    said, seen = [], set()
    todo = [first] if first in stuck else sorted(stuck)[:1]
    while todo:
        id = todo.pop()
        if id in seen:
            continue
        seen.add(id)
        for lock in locks:
            waiter = lock.status.waiter(id)
            blocking = [one for one in lock.status.holders if one.id in stuck] if waiter is not None else []
            if waiter is not None and blocking:
                held_by = " and ".join(one.name for one in blocking)
                said.append(f"{waiter.name} waits for {lock.key}, held by {held_by}")
                todo += [one.id for one in blocking]
            todo += [one.id for one in lock.status.waiting if id in one.within and one.id in stuck]
    return "; ".join(said)
