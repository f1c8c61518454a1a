"""Many manifests read by a second process, while this one loads what it takes to check them.

    this process   load pydantic and the models | read the first quarter | take over | check
    its child      read the other three         | write them down, end

Worth it from some hundred documents on. What the child could not read, or all if it ended early, is read here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Self

from reconciler.loading import quick
from reconciler.loading.parse import Parsed, SourceFile

FEWEST_BYTES = 200_000
"""Less is read in the time that it takes to hand it over."""
_SHARE = 0.75
"""Of the child: for this process has to load, first."""


class ReadAhead:
    """The files that a child reads; to be entered before anything slow is done, and left for sure."""

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self._files = _last(files)
        self._found: dict[SourceFile, quick.Plain | None] | None = None
        self.pid = self._fd = -1
        """The child's."""

    def __enter__(self) -> Self:
        if self._files and len(os.sched_getaffinity(0)) > 1:
            self._fd = os.memfd_create("manifests", os.MFD_CLOEXEC)
            self.pid = os.fork()
            if self.pid == 0:
                self._child()
        return self

    def __exit__(self, *_: object) -> None:
        self._take()

    @property
    def running(self) -> bool:
        """Whether there is a child, and it has not been waited for."""
        return self.pid > 0 and self._found is None

    def read(self, file: SourceFile) -> Parsed:
        """As `quick.read`."""
        found = self._take().get(file) if file in self._files else None
        return quick.read(file) if found is None else quick.documents(file, found)

    def _child(self) -> None:
        """Never returns."""
        try:
            with os.fdopen(self._fd, "w") as out:
                json.dump([quick.plain(file) for file in self._files], out)
            os._exit(0)
        finally:
            os._exit(1)

    def _take(self) -> dict[SourceFile, quick.Plain | None]:
        if self._found is None:
            self._found = {}
            if self.pid > 0:
                _, status = os.waitpid(self.pid, 0)
                with os.fdopen(self._fd) as written:
                    if status == 0:
                        written.seek(0)
                        self._found = dict(zip(self._files, json.load(written), strict=True))
        return self._found


def _last(files: Sequence[SourceFile]) -> dict[SourceFile, None]:
    """The child's share, from the end; none where there is little to read."""
    left = sum(len(file.data) for file in files)
    if left < FEWEST_BYTES:
        return {}
    chosen: dict[SourceFile, None] = {}
    wanted = left * _SHARE
    for file in reversed(files):
        if wanted <= 0:
            break
        chosen[file] = None
        wanted -= len(file.data)
    return chosen
