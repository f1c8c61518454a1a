"""Consistent hashing: which of several workers a key belongs to, so that few keys move when one comes or goes. Pure.

    0 ---- b.17 ---- a.3 ---- KEY ---> c.88 ---- a.41 ---- 2^64       a key belongs to the next point on its right

Contract: the same names, weights and key give the same owner in every process and version. One of n that comes or goes
moves about 1/n of the keys, and none between the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from math import ceil


def point(text: str) -> int:
    """Where a name or a key stands on the ring."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


class Ring:
    """Names at `virtual_nodes` points each, times their weight; a weight of 0 has none."""

    def __init__(self, members: Iterable[tuple[str, float]], virtual_nodes: int = 128) -> None:
        """Raises ValueError for a name that comes twice, or a weight below 0."""
        self.names: list[str] = []
        found: list[tuple[int, str]] = []
        for name, weight in members:
            if name in self.names:
                raise ValueError(f"{name!r} is on the ring already")
            if weight < 0:
                raise ValueError(f"{name!r} has the weight {weight}, which is less than nothing")
            self.names.append(name)
            found += ((point(f"{name}.{number}"), name) for number in range(round(weight * virtual_nodes)))
        found.sort()
        self._points = [at for at, _ in found]
        self._owners = [name for _, name in found]

    def owner(self, key: str) -> str | None:
        """Whom the key belongs to; None when nobody is on the ring."""
        return next(self.owners(key), None)

    def owners(self, key: str) -> Iterator[str]:
        """All names, each once: its owner, then whoever would be it if those before were not there."""
        first, count = bisect_right(self._points, point(key)), len(self._points)
        seen: set[str] = set()
        for step in range(count):
            name = self._owners[(first + step) % count]
            if name not in seen:
                seen.add(name)
                yield name

    def bounded(self, key: str, loads: Mapping[str, int], factor: float, floor: int = 0) -> str | None:
        """The first of the owners that does not have more than `factor` times its share of all that is loaded.

        `floor`: what nobody is thought to have too much with.
        """
        if not self._points:
            return None
        share = ceil(factor * (sum(loads.get(name, 0) for name in self.names) + 1) / len(self.names))
        limit = max(share, floor)
        return next((name for name in self.owners(key) if loads.get(name, 0) < limit), self.owner(key))


@lru_cache(maxsize=256)
def ring_of(names: tuple[str, ...], virtual_nodes: int) -> Ring:
    """A ring of equals; kept, for it is asked for in every turn."""
    return Ring(((name, 1.0) for name in names), virtual_nodes)
