"""Hints that a directory has changed. A hint says `look`, never what: names of events mislead (`..data`, renames, links).

inotify below the root         a hint a moment after the change
the root is another directory  seen within a second (removed and made anew, a link that is re-pointed): watched anew
cannot be watched              said once; whoever looks every 30 s anyhow is enough then
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

log = logging.getLogger("reconciler")

STANDS_S = 1.0
"""How often the root is looked at whether it is still the same directory."""
ARMED_S = 0.5
AGAIN_S = 30.0
_STEP_MS = 50
"""The watcher's thread wakes that often, at some 10 us each."""
_DEBOUNCE_MS = 100
"""Short: who is poked waits for quiet by itself."""


def identity(path: str) -> str:
    """Device and inode of what stands at that path; empty when nothing does or nobody may know."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_dev}:{found.st_ino}"


async def watch(root: str, poke: Callable[[], None]) -> None:
    """Pokes after each change below the root, until cancelled."""
    import watchfiles  # takes 40 ms: after the first look

    told = False
    while True:
        whole = os.path.isdir(root)
        directory = root if whole else os.path.dirname(root)
        # what changed before the watch stood has made no event
        asyncio.get_running_loop().call_later(ARMED_S, poke)
        stop = asyncio.Event()
        guard = asyncio.create_task(_until_replaced(root, stop))
        pause_s = 0.0
        try:
            async for _ in watchfiles.awatch(
                directory, recursive=whole, debounce=_DEBOUNCE_MS, step=_STEP_MS, stop_event=stop, rust_timeout=5000
            ):
                poke()
        except (OSError, RuntimeError) as error:  # RuntimeError: the watcher's own, a name that is not UTF-8 for one
            pause_s = AGAIN_S if identity(directory) else STANDS_S
            if not told and identity(directory):
                log.warning("%s cannot be watched (%s): it is looked at every %d s", directory, error, AGAIN_S)
                told = True
        finally:
            guard.cancel()
        poke()
        await asyncio.sleep(pause_s)


async def _until_replaced(root: str, stop: asyncio.Event) -> None:
    """Ends the watch when the root is another one, gone, or there at last: it would stay deaf for ever."""
    stands = identity(root)
    while identity(root) == stands:
        await asyncio.sleep(STANDS_S)
    stop.set()
