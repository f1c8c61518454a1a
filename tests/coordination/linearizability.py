"""Whether a history of a lock can be put in one order that a plain lock with tokens allows (Wing and Gong, with memory).

acquire -> token      the lock is free, and the token is larger than all before
release(token) -> ok  it is held with that token, and ok says so
lapse(token)          a holder that was stopped or killed loses it, at some time or never: its return is infinite
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Op(NamedTuple):
    """One operation: called and returned at these times, with this result."""

    called: float
    returned: float
    kind: str
    token: int
    ok: bool = True


def lapse(token: int, since: float) -> Op:
    """The loss of a lock at an unknown time after `since`."""
    return Op(since, math.inf, "lapse", token)


def linearizable(history: Sequence[Op]) -> bool:
    """Whether one order of all operations that returned, and some of the others, is one of a lock."""
    ops = sorted(history)
    seen: set[tuple[frozenset[int], tuple[int, int]]] = set()
    todo = [(frozenset(range(len(ops))), (0, 0))]  # those left; the token that holds it (0: nobody), the largest
    while todo:
        left, state = todo.pop()
        if (left, state) in seen:
            continue
        seen.add((left, state))
        if all(math.isinf(ops[i].returned) for i in left):
            return True
        first_return = min(ops[i].returned for i in left)
        for i in sorted(left, reverse=True):
            if ops[i].called <= first_return and (after := _apply(ops[i], state)) is not None:
                todo.append((left - {i}, after))
    return False


def _apply(op: Op, state: tuple[int, int]) -> tuple[int, int] | None:
    holder, largest = state
    match op.kind:
        case "acquire":
            return (op.token, op.token) if not holder and op.token > largest else None
        case "lapse":
            return (0, largest) if holder == op.token else None
        case "release" if op.ok:
            return (0, largest) if holder == op.token else None
        case _:
            return state if holder != op.token else None
