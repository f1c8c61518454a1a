"""How many a pool shall have now, by all that it follows.

Backlog   the band and the steps of autoscale.py
CPU       ceil(current x cpu / target), within 10 % nothing; at most twice as many, or 4 more; fewer only when nothing
          more was wanted for 300 s

A step every 15 s; from none to one at once when work waits. Never fewer than run. Not more while the host is busy.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from math import ceil
from typing import NamedTuple

from reconciler.policies.autoscale import STEP_S, Step, step
from reconciler.resources.autoscale import Autoscale, MetricType, Wanted

WINDOW_S = 300.0
TOLERANCE = 0.1
FEWEST_MORE = 4
HOST_BUSY_PERCENT = 80.0


class Seen(NamedTuple):
    """A pool at one moment; None: it is not known."""

    current: int
    running: int
    """Those that do something: never taken away."""
    pending: int | None
    cpu_percent: float | None
    """Of one core, all together."""
    host_cpu_percent: float | None


class Decision(NamedTuple):
    """The step to take now, if any, and when to look again; `look_at` None: when something changes."""

    step: Step | None
    wanted: tuple[Wanted, ...]
    look_at: datetime | None
    held: str = ""
    """Why it does not grow, though it should."""


def decide(
    scale: Autoscale, stepped_at: datetime | None, lately: tuple[Wanted, ...], seen: Seen, now: datetime
) -> Decision:
    """The next step, or none. `lately`: what CPU wanted, as it was remembered."""
    current = seen.current
    if not scale.min <= current <= scale.max:
        return Decision(step(current, 0, 0, scale.min, scale.max), lately, now + timedelta(seconds=STEP_S))
    replicas, why, lately = _wanted(scale, lately, seen, now)
    replicas = min(max(replicas, scale.min), scale.max)
    if replicas < current:
        replicas = max(replicas, min(seen.running, current))
    if replicas == current:
        return Decision(None, lately, _look_at(scale, seen, now))
    next_at = stepped_at + timedelta(seconds=STEP_S) if stepped_at is not None else now
    if current and now < next_at <= now + timedelta(seconds=STEP_S):
        return Decision(None, lately, next_at)
    busy = seen.host_cpu_percent is not None and seen.host_cpu_percent >= HOST_BUSY_PERCENT
    if current and replicas > current and busy:
        held = f"stays at {current}: the host's CPU is at {seen.host_cpu_percent:.0f} %; {replicas} would be had: {why}"
        return Decision(None, lately, now + timedelta(seconds=STEP_S), held)
    return Decision(Step(replicas, why), lately, now + timedelta(seconds=STEP_S))


def _look_at(scale: Autoscale, seen: Seen, now: datetime) -> datetime | None:
    """A pool at its least in which nothing waits is looked at when something comes, CPU from time to time."""
    by_cpu = any(metric.type is MetricType.CPU for metric in scale.metrics)
    at_rest = not by_cpu and not seen.pending and seen.current <= scale.min
    return None if at_rest else now + timedelta(seconds=STEP_S)


def _wanted(
    scale: Autoscale, lately: tuple[Wanted, ...], seen: Seen, now: datetime
) -> tuple[int, str, tuple[Wanted, ...]]:
    """What the metric that wants most wants, in its words; and what to remember."""
    current = seen.current
    found: list[tuple[int, str]] = []
    for metric in scale.metrics:
        if metric.type is MetricType.BACKLOG and seen.pending is not None:
            next_ = step(current, seen.pending, seen.running, scale.min, scale.max)
            found.append((next_.slots, next_.why) if next_ is not None else (current, ""))
        elif metric.type is MetricType.CPU and seen.cpu_percent is not None and metric.target is not None:
            replicas, why = _by_cpu(current, seen.cpu_percent, metric.target)
            lately = _remembered(lately, Wanted(at=now, replicas=replicas), current, now)
            if replicas < current:
                replicas, why = min(current, max(one.replicas for one in lately)), f"{why} for {WINDOW_S:.0f} s"
            found.append((replicas, why))
        else:
            found.append((current, ""))  # what is not known takes nothing away
    return *max(found, key=lambda one: one[0]), lately


def _by_cpu(current: int, cpu_percent: float, target: float) -> tuple[int, str]:
    each = cpu_percent / max(1, current)
    reason = f"each uses {each:.0f} % of a core, the target is {target:g} %"
    if abs(each - target) <= TOLERANCE * target:
        return current, reason
    return min(ceil(current * each / target), max(2 * current, current + FEWEST_MORE)), reason


def _remembered(recent: tuple[Wanted, ...], one: Wanted, current: int, now: datetime) -> tuple[Wanted, ...]:
    """Only what can still be the largest within the window: each is larger than all that came after it.

    Where nothing is known of the window, what there is was wanted.
    """
    first = now - timedelta(seconds=WINDOW_S)
    known = [old for old in recent if first < old.at <= now] or [Wanted(at=now, replicas=current)]
    return (*(old for old in known if old.replicas > one.replicas), one)
