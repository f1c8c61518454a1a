"""Whoever looks around regularly wakes at whole seconds: all at once, however they began."""

from __future__ import annotations

import asyncio

from reconciler.runtime.pulse import next_second


def test_those_who_began_at_different_moments_are_due_at_the_same_whole_second() -> None:
    async def due(begin_after_s: float) -> float:
        await asyncio.sleep(begin_after_s)
        late_s = await next_second()
        assert late_s > -0.01  # never early: else a second would be looked at twice
        return asyncio.get_running_loop().time() - late_s

    async def run() -> list[float]:
        return await asyncio.gather(*(due(begin_s) for begin_s in (0.0, 0.05, 0.3)))

    assert all(abs(moment - round(moment)) < 0.2 for moment in asyncio.run(run()))
