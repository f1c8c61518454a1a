"""How many slots a pool needs for the tasks that wait.

    pending > 2 x current    grow by pending / 2, at most to max
    pending < current / 2    shrink by current / 2, at least to min, and never below what runs
    in between               nothing: a band that wide does not flap

Halves are rounded up. Steps keep a distance; the first slot comes at once, and bounds that have been moved hold at once.
"""

from __future__ import annotations

from typing import NamedTuple

STEP_S = 15.0
"""Between two steps."""


class Step(NamedTuple):
    """So many slots from now on, and why."""

    slots: int
    why: str
    waits: bool = True
    """Whether the next one keeps its distance from it: not from a bound that has been moved."""


def step(current: int, pending: int, running: int, least: int, most: int) -> Step | None:
    """The next step; None: it is enough as it is."""
    if current < least:
        return Step(least, f"min is {least}", waits=False)
    if current > most:
        return Step(most, f"max is {most}", waits=False)
    if current == 0:
        return Step(1, f"{_tasks(pending)} and there is no slot") if pending and most else None
    if pending > 2 * current:
        grown = current + min((pending + 1) // 2, most - current)
        return Step(grown, f"{_tasks(pending)}, more than 2 x {current}") if grown > current else None
    if 2 * pending < current:
        shrunk = max(current - min((current + 1) // 2, current - least), running)
        return Step(shrunk, f"{_tasks(pending)}, fewer than {current} / 2") if shrunk < current else None
    return None


def _tasks(pending: int) -> str:
    return "one task waits" if pending == 1 else f"{pending} tasks wait"
