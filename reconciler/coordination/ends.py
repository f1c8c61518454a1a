"""Tells when processes end that are no children of ours.

watch(id, pid, born)  ->  a pidfd, readable when it ends  ->  on_end(id)
a pid that has come again was born at another moment: the one that was meant has ended
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable


def born(pid: int) -> int | None:
    """When it was started, in clock ticks since boot; None: there is no such process, or it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in (b"Z", b"X") else int(fields[18])


class ProcessEnds:
    """One descriptor for each process, whatever the number of ids that end with it."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ids: dict[tuple[int, int], dict[str, None]] = {}
        self._fds: dict[tuple[int, int], int] = {}
        self._of: dict[str, tuple[int, int]] = {}

    def watch(self, id: str, pid: int, born_: int) -> None:
        """From now on its end is told, at once if it has ended."""
        process = (pid, born_)
        if process not in self._fds:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._loop.call_soon(self._on_end, id)
                return
            if born(pid) != born_:
                os.close(fd)
                self._loop.call_soon(self._on_end, id)
                return
            self._fds[process] = fd
            self._loop.add_reader(fd, self._ended, process)
        self._ids.setdefault(process, {})[id] = None
        self._of[id] = process

    def forget(self, id: str) -> None:
        """Its end is of no interest any more."""
        process = self._of.pop(id, None)
        if process is None:
            return
        del self._ids[process][id]
        if not self._ids[process]:
            self._close(process)

    def _ended(self, process: tuple[int, int]) -> None:
        ids = list(self._ids[process])
        self._close(process)
        for id in ids:
            del self._of[id]
            self._on_end(id)

    def _close(self, process: tuple[int, int]) -> None:
        del self._ids[process]
        fd = self._fds.pop(process)
        self._loop.remove_reader(fd)
        os.close(fd)
