"""Hints that a directory has changed. A hint says `look`, never what: names of events mislead (`..data`, renames, links).

inotify below the root         a hint at once after a file was written and closed, made, renamed, removed
the root is another directory  seen within a second (removed and made anew, a link that is re-pointed): watched anew
cannot be watched              said once; whoever looks every 30 s anyhow is enough then
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from reconciler.backends import inotify
from reconciler.backends.inotify import Inotify
from reconciler.runtime.pulse import next_second

log = logging.getLogger("reconciler")

ARMED_S = 0.5
"""What changed before the watch stood, and was being written then, is looked at after this."""
AGAIN_S = 30.0
_MASK = inotify.CLOSE_WRITE | inotify.ATTRIB | inotify.MOVED | inotify.CREATE | inotify.DELETE | inotify.SELF
GONE = "gone"
"""In place of an identity: the directory was seen to be missing."""
_SKIPPED = ".git"
"""It changes with every command of git, and holds nothing that is read."""


def identity(path: str) -> str:
    """Device and inode of what stands at that path; empty when nothing does or nobody may know."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{found.st_dev}:{found.st_ino}"


async def watch(root: str, poke: Callable[[], None]) -> None:
    """Pokes after each change below the root, until cancelled."""
    told = False
    while True:
        stands = identity(root)
        whole = os.path.isdir(root)
        directory = root if whole else os.path.dirname(root) or "."
        try:
            hints = _Hints(poke)
            try:
                await hints.arm(directory, whole)
                poke()
                asyncio.get_running_loop().call_later(ARMED_S, poke)
                while identity(root) == stands and not hints.deaf:
                    await next_second()
                    if hints.grown:
                        await hints.arm(directory, whole)
                        poke()
            finally:
                hints.close()
        except OSError as error:
            if not told and identity(directory):
                log.warning("%s cannot be watched (%s): it is looked at every %d s", directory, error, AGAIN_S)
                told = True
            if identity(directory):
                await asyncio.sleep(AGAIN_S)
            else:
                await next_second()
        poke()


class _Hints:
    """The watches on one directory, or on a whole tree of them."""

    def __init__(self, poke: Callable[[], None]) -> None:
        self.grown = False
        """Whether there are directories that are not watched yet."""
        self.deaf = False
        """Whether the directory itself is gone; another one may have got its inode since."""
        self._root = 0
        self._poke = poke
        self._inotify = Inotify(self._heard)

    async def arm(self, directory: str, whole: bool) -> None:
        """Watches every directory that is there now; those that are watched already stay so. Raises OSError."""
        self.grown = False
        await asyncio.to_thread(self._arm, directory, whole)

    def close(self) -> None:
        self._inotify.close()

    def _arm(self, directory: str, whole: bool) -> None:
        self._root = self._inotify.add(directory, _MASK | inotify.ONLY_DIRECTORY)
        if whole:
            for path, below, _ in os.walk(directory):
                below[:] = [name for name in below if name != _SKIPPED and not os.path.islink(os.path.join(path, name))]
                for name in below:
                    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # gone; what may not be read
                        self._inotify.add(os.path.join(path, name), _MASK | inotify.ONLY_DIRECTORY)

    def _heard(self, events: Sequence[tuple[int, int]]) -> None:
        for number, mask in events:
            self.deaf |= number == self._root and bool(mask & inotify.SELF)
            if mask & inotify.OVERFLOW or (mask & inotify.DIRECTORY and mask & (inotify.CREATE | inotify.MOVED)):
                self.grown = True
        if any(mask != inotify.IGNORED for _, mask in events):
            self._poke()
