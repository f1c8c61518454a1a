"""Who holds a lock next: the whole decision, without a clock.

    holders whose lease is over, or whose worker has ended    ->  out
    workers that have begun to ask                            ->  to the end of the line
    room                                                      ->  the first of the line, each with the next token

A release is not decided here: whoever holds the id and the token takes itself out, and the next step gives what is free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from reconciler.resources.lock import Holder, LockSpec, LockStatus, Waiter


@dataclass(frozen=True, slots=True)
class Step:
    """The lock after one decision, and whose lease had run out."""

    status: LockStatus
    lapsed: tuple[Holder, ...] = ()


def step(
    spec: LockSpec,
    status: LockStatus,
    asking: Sequence[Waiter],
    left_s: Callable[[str], float],
    floor: int,
    now: datetime,
    grants: bool = True,
) -> Step:
    """The next state of a lock.

    `asking`: workers that want it or have it, all of them; `left_s`: how long the lease of an id lasts still;
    `floor`: the largest token that was ever given, also where the status knows nothing of it.
    """
    wanted = {one.id for one in asking}
    holders = [one for one in status.holders if _stays(one, wanted, left_s)]
    lapsed = tuple(one for one in status.holders if one.leased and left_s(one.id) <= 0)
    line = [one for one in status.waiting if _stays(one, wanted, left_s)]
    known = {one.id for one in (*holders, *line)}
    line += [one for one in asking if one.id not in known]
    token = max(status.token, floor)
    while grants and line and len(holders) < spec.max_holders:
        first, token = line.pop(0), token + 1
        holders.append(Holder(**{**dict(first), "since": now}, token=token))
    return Step(status.changed(token=token, holders=tuple(holders), waiting=tuple(line)), lapsed)


def _stays(one: Waiter, wanted: set[str], left_s: Callable[[str], float]) -> bool:
    return left_s(one.id) > 0 if one.leased else one.id in wanted


def without(status: LockStatus, id: str, token: int | None = None) -> LockStatus:
    """The lock without that holder or waiter; unchanged when a holder's token is another: it is not theirs to give."""
    held = status.holder(id)
    if held is not None and token is not None and held.token != token:
        return status
    return status.changed(
        holders=tuple(one for one in status.holders if one.id != id),
        waiting=tuple(one for one in status.waiting if one.id != id),
    )
