"""How busy the machine is: all its cores together, between two looks at /proc/stat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Between two looks: less says little, and what was so long ago says nothing of now."""

_IDLE = (3, 4)
"""idle and iowait: the cores had nothing to do."""


class HostCpu:
    """Percent of all cores in use since the look before."""

    def __init__(self, monotonic: Callable[[], float], path: Path = Path("/proc/stat")) -> None:
        self._monotonic = monotonic
        self._path = path
        self._looked_s = float("-inf")
        self._ticks = (0, 0)
        self._percent: float | None = None

    def percent(self) -> float | None:
        """0 to 100; None when there was no look lately to compare with."""
        now_s = self._monotonic()
        since_s = now_s - self._looked_s
        if since_s < SHORTEST_S:
            return self._percent
        words = [int(word) for word in self._path.read_text().split("\n", 1)[0].split()[1:9]]
        busy, every = sum(words) - sum(words[i] for i in _IDLE), sum(words)
        before_busy, before_every = self._ticks
        passed = every - before_every
        known = since_s <= LONGEST_S and passed > 0
        self._percent = min(100.0, max(0.0, 100 * (busy - before_busy) / passed)) if known else None
        self._looked_s, self._ticks = now_s, (busy, every)
        return self._percent
