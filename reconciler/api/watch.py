"""Watches: committed changes of one kind, handed to each client in order, none left out or twice.

    store -> on_commit -> Watcher.add  ...  Watcher.next -> server-sent events

A client that falls behind by more than is kept hears Gone and begins again with a list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from reconciler.api import views
from reconciler.errors import Gone
from reconciler.store.base import WATCH_WINDOW, Change

_KEEP_ALIVE_S = 15.0


async def events(watcher: Watcher) -> AsyncIterator[bytes]:
    """What the client is sent, without end; a comment when there has been nothing for a while."""
    while True:
        try:
            async with asyncio.timeout(_KEEP_ALIVE_S):
                block = await watcher.next()
            yield block
        except TimeoutError:
            yield b": nothing new\n\n"
        except Gone as error:
            yield views.watch_error(error)
            return


class Watcher:
    """One client's view of the changes: those of its kind, in order, none left out."""

    def __init__(self, kind: str, name: str | None) -> None:
        self._kind, self._name = kind, name
        self._waiting: deque[Change] = deque()
        self._woken = asyncio.Event()
        self._behind = False

    def add(self, changes: Sequence[Change]) -> None:
        """Takes over what concerns this watcher."""
        for item in changes:
            if item.object.kind == self._kind and self._name in (None, item.object.name):
                self._waiting.append(item)
        if len(self._waiting) > WATCH_WINDOW:
            self._waiting.clear()
            self._behind = True
        if self._waiting or self._behind:
            self._woken.set()

    async def next(self) -> bytes:
        """All that has come, as server-sent events. Raises Gone when the reader was too slow."""
        await self._woken.wait()
        if self._behind:
            raise Gone("the watch fell behind by more changes than are kept", "list again, then watch from there")
        found = b"".join(map(views.change, self._waiting))
        self._waiting.clear()
        self._woken.clear()
        return found
