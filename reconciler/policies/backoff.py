"""How long to wait before trying again.

    try        1    2    3    4    5  ...
    wait       0    1s   2s   4s   8s ...  60s      each spread by the jitter, none longer than the cap

The spread comes from a checksum of the seed: the same plan made twice says the same moment, and a thousand workers that
fell together do not come back together.
"""

from __future__ import annotations

from zlib import crc32

from reconciler.resources.restart import Backoff


def delay_s(attempt: int, backoff: Backoff, seed: str) -> float:
    """Seconds to wait before restart `attempt` (the first is 1 and waits nothing), then initial x factor, at most max.

    Raises ValueError if attempt < 1. As the kubelet's CrashLoopBackOff, with the values of KEP-4603.
    """
    if attempt < 1:
        raise ValueError(f"restarts are counted from 1, got {attempt}")
    if attempt == 1:
        return 0.0
    try:
        wait_s = min(backoff.initial_s * backoff.factor ** (attempt - 2), backoff.max_s)
    except OverflowError:
        wait_s = backoff.max_s if backoff.initial_s else 0.0
    spread_s = wait_s * (1 + backoff.jitter * _spread(seed))
    # What would pass the cap is mirrored below it, not cut: cut waits would all end in the same moment.
    return spread_s if spread_s <= backoff.max_s else 2 * backoff.max_s - spread_s


def _spread(seed: str) -> float:
    """A number from -1 to 1 that depends on the seed alone."""
    return share(seed) * 2 - 1


def share(seed: str) -> float:
    """A number from 0 to 1 that depends on the seed alone."""
    return crc32(seed.encode()) / 0xFFFFFFFF
