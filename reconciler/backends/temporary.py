"""Temporary directories of workers where the daemon may not give them a /tmp of their own, which only root may.

    STATE/tmp/INSTANCE/            its TMPDIR: made before its start, for the daemon's user alone, and writable in its sandbox
    STATE/tmp/.removed/INSTANCE    what is left of one whose process has ended, until a thread has removed it

It is taken from its place at once, by one rename, before the end counts; a daemon that died meanwhile clears the rest away at
its next start.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import threading
from collections.abc import Collection
from contextlib import suppress

log = logging.getLogger("reconciler")

_REMOVED = ".removed"


class Temporary:
    """All of one state directory."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._removed = os.path.join(directory, _REMOVED)
        self._waiting: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        self._remover: threading.Thread | None = None

    def make(self, instance: str) -> None:
        """An empty directory; asked twice, made once. Raises OSError."""
        for path in (self.directory, os.path.join(self.directory, instance)):
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)

    def remove(self, instance: str) -> None:
        """Takes it from its place now, and removes it with all that it holds soon; nothing happens where there is none."""
        with suppress(FileNotFoundError):
            os.rename(os.path.join(self.directory, instance), self._place_for(instance))
            self._soon(instance)

    def keep_only(self, instances: Collection[str]) -> None:
        """Removes what was left by all others, also what an earlier daemon did not get to."""
        with suppress(FileNotFoundError):
            left = set(os.listdir(self.directory)) - {_REMOVED}
            for instance in left - set(instances):
                self.remove(instance)
            for instance in os.listdir(self._removed):
                self._soon(instance)

    def finish(self, longest_s: float) -> None:
        """Waits for what is being removed, but not for ever: the next start goes on with it."""
        done = threading.Event()
        if self._remover is not None:
            self._waiting.put(done)
            done.wait(longest_s)

    def _place_for(self, instance: str) -> str:
        with suppress(FileExistsError):
            os.mkdir(self._removed, 0o700)
        return os.path.join(self._removed, instance)

    def _soon(self, instance: str) -> None:
        self._waiting.put(os.path.join(self._removed, instance))
        if self._remover is None:
            self._remover = threading.Thread(target=self._remove, name="temporary", daemon=True)
            self._remover.start()

    def _remove(self) -> None:
        while True:
            path = self._waiting.get()
            if isinstance(path, threading.Event):
                path.set()
                continue
            try:
                _open(path)
                shutil.rmtree(path)
            except FileNotFoundError:
                continue  # it was asked for twice
            except OSError as error:  # the next start of the daemon tries again
                log.warning("%s cannot be removed: %s", path, error)


def _open(path: str) -> None:
    """What a worker closed to itself is closed to its user too."""
    for where, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(where, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
