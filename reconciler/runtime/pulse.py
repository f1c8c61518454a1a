"""The second: whoever looks around regularly does so at the same moment, so that an idle controller wakes once for all."""

from __future__ import annotations

import asyncio
from math import floor

PERIOD_S = 1.0


async def next_second() -> float:
    """Returns at the next whole second of the loop's clock; how late that was, in seconds."""
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    due_s = floor(now_s + 0.1) + PERIOD_S  # one that is almost there counts as past
    await asyncio.sleep(due_s - now_s)
    return loop.time() - due_s
