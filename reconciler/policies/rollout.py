"""Which workers take the new template next.

    old old old   ->   NEW old old   ->   new NEW old   ->   new new NEW      one after another, never fewer than allowed
                       NEW fails     ->   the rest stays old, until the template changes again

A new worker is settled when it has stayed up for max(minReady, 1 s); until then it counts as missing. Workers that are
down anyway come first: replacing them takes nothing away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconciler.resources.pool import Rollout, Strategy
from reconciler.resources.units import format_duration, format_moment, moment

SHORTEST_STAY_S = 1.0
"""Without probes a process is ready once its exec succeeded: a rollout waits to see that it stays."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker, as far as a rollout looks at it."""

    name: str
    wanted: str
    """The template hash its spec says."""
    running: str
    """The template hash of its latest start."""
    ready_since: datetime | None
    """None: it is not ready."""
    completed: bool = False
    """It has done what it was for, and is not started again."""
    failed_at: datetime | None = None
    """When its process last ended by itself, and that counts as a failure."""
    why: str = ""
    """How it ended."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now, how far the rollout is then, and when to look again at the latest."""

    replace: tuple[str, ...] = ()
    rollout: Rollout | None = None
    look_at: datetime | None = None


def next_step(
    slots: Sequence[Slot],
    target: str,
    strategy: Strategy,
    before: Rollout | None,
    now: datetime,
    missing: int = 0,
    shortest_s: float = SHORTEST_STAY_S,
    held: bool = False,
    resumed_at: datetime | None = None,
) -> Step:
    """The next workers to replace, by name; `slots` in the order in which equals are replaced.

    `missing`: slots that have no worker yet. They begin with the new template, so they are the first to show whether it
    stays up, and count as unavailable until then. `shortest_s`: 0 where probes say when it is ready. `held`: an operator
    has paused it; nothing is replaced then, and its deadline runs anew from `resumed_at`.
    """
    current = before if before is not None and before.template_hash == target else None
    old = [slot for slot in slots if slot.wanted != target]
    if current is None and not old:
        return Step()
    stay = timedelta(seconds=max(strategy.min_ready_s, shortest_s))
    arriving = [slot for slot in slots if slot.wanted == target and not _settled(slot, target, stay, now)]
    if not old and not arriving:
        return Step()
    if current is None and not held and all(slot.ready_since is None for slot in slots):
        return Step(replace=tuple(slot.name for slot in old))  # nothing is up that a rollout could protect
    if current is None:
        current = Rollout(template_hash=target, began_at=format_moment(now), moved_at=format_moment(now))
    if current.failed:
        return Step(rollout=current)

    broken = _first_broken(slots, target, moment(current.began_at))
    if broken is not None:
        return Step(rollout=current.changed(failed=f"worker/{broken.name} did not stay up: {broken.why}"))

    if held:
        return Step(rollout=current)
    replace = _replaceable(old, len(arriving) + missing, strategy.max_unavailable)
    if replace:
        current = current.changed(moved_at=format_moment(now))
    moved_at = max(moment(current.moved_at), resumed_at or moment(current.moved_at))
    deadline = moved_at + timedelta(seconds=strategy.progress_deadline_s)
    if now >= deadline:
        failed = f"nothing moved for {format_duration(strategy.progress_deadline_s)} (progressDeadline)"
        return Step(rollout=current.changed(failed=failed))
    settling = [slot.ready_since + stay for slot in arriving if slot.ready_since is not None and slot.running == target]
    return Step(replace, current, min([deadline, *settling]))


def step_back(
    slots: Sequence[Slot],
    failed: Rollout,
    good: str,
    strategy: Strategy,
    now: datetime,
    shortest_s: float = SHORTEST_STAY_S,
) -> Step:
    """The next workers that go back to the template that was good before a rollout failed: those that are down first."""
    stay = timedelta(seconds=max(strategy.min_ready_s, shortest_s))
    new = [slot for slot in slots if slot.wanted == failed.template_hash]
    arriving = [slot for slot in slots if slot.wanted == good and not _settled(slot, good, stay, now)]
    settling = [slot.ready_since + stay for slot in arriving if slot.ready_since is not None and slot.running == good]
    replace = _replaceable(new, len(arriving), strategy.max_unavailable)
    return Step(replace, failed, min(settling, default=None) if new else None)


def _settled(slot: Slot, target: str, stay: timedelta, now: datetime) -> bool:
    if slot.running != target:
        return False
    return slot.completed or (slot.ready_since is not None and now >= slot.ready_since + stay)


def _first_broken(slots: Sequence[Slot], target: str, began_at: datetime) -> Slot | None:
    """A failure before the rollout began says nothing about it: after a rollback the target is what ran before."""
    for slot in slots:
        if slot.wanted == slot.running == target and slot.failed_at is not None and slot.failed_at >= began_at:
            return slot
    return None


def _replaceable(old: Sequence[Slot], missing: int, max_unavailable: int) -> tuple[str, ...]:
    down = [slot.name for slot in old if slot.ready_since is None]
    up = [slot.name for slot in old if slot.ready_since is not None]
    chosen = down[: max(0, max_unavailable - missing)]
    return (*chosen, *up[: max(0, max_unavailable - missing - len(down))])
