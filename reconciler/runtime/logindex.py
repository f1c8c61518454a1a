"""When the bytes of output files were written, sparsely: so that `logs --since` begins at a line, not at a file.

    a look at web-0's file: (time of its last write, size)      all bytes up to there were written by then
    since T  ->  the largest such size before T                 what is shown begins there: rather too much than too little

Sizes are counted from the file's beginning, across rotation. In memory only: after a restart of the daemon it is the
rotated files whose times are known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

MOST_MARKS = 2000


class LogIndex:
    """Marks of the files that are looked at. Written by one thread; readers see whole lists."""

    def __init__(self) -> None:
        self._marks: dict[str, list[tuple[float, int]]] = {}
        self._moved: dict[str, int] = {}
        """Bytes that rotation has taken away from the front of each file."""

    def note(self, path: str, written_at_s: float, size_bytes: int) -> None:
        """A look at a file that has grown."""
        marks = self._marks.get(path, [])
        if len(marks) >= MOST_MARKS:
            marks = marks[::2]
        self._marks[path] = [*marks, (written_at_s, self._moved.get(path, 0) + size_bytes)]

    def rotated(self, path: str, moved_bytes: int) -> None:
        """So many bytes have left the front of it."""
        self._moved[path] = self._moved.get(path, 0) + moved_bytes

    def forget(self, path: str) -> None:
        """Nobody writes to it any more."""
        self._marks.pop(path, None)
        self._moved.pop(path, None)

    def skip(self, parts: Sequence[str], since_s: float) -> dict[str, int]:
        """How much of each part of one output, oldest first, was written before that moment, as far as is known."""
        if not parts:
            return {}
        newest = parts[-1]
        known = max((size for at, size in self._marks.get(newest, ()) if at < since_s), default=0)
        begins = self._moved.get(newest, 0)
        found = {newest: max(0, known - begins)}
        for part in reversed(parts[:-1]):
            try:
                begins -= os.stat(part).st_size
            except FileNotFoundError:
                break
            found[part] = max(0, known - begins)
        return found
