"""Output files: where they stand, and how they are kept small without losing a line.

    w/<uid>.7.log       a worker's seventh start     rotated: <uid>.7.log.1 (newest) <uid>.7.log.2 ...
    t/12/12345.1.log    a task's first try

Children write straight into the file, opened O_APPEND: nobody's death can break that. Rotation copies the head to a new
file and then removes it from the front with FALLOC_FL_COLLAPSE_RANGE, so that a writer at full speed loses nothing; on
file systems without it, the file is copied and truncated, and lines written in between are lost, which `status` says.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import NamedTuple

_COLLAPSE_RANGE = 8
_BLOCK = 4096
_CHUNK = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class Rotation(NamedTuple):
    """What a look at one file did."""

    rotated: bool
    lossless: bool


def rotate(path: str, max_bytes: int, max_files: int) -> Rotation:
    """Moves the whole blocks of a file that has grown past `max_bytes` into `path.1`, keeping `max_files` of those.

    Raises OSError when the copy cannot be written; the file is then as it was.
    """
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size <= max_bytes:
            return Rotation(False, True)
        head = size // _BLOCK * _BLOCK
        if head == size:  # the whole file cannot be collapsed: at least one block has to stay
            head -= _BLOCK
        if head <= 0:
            return Rotation(False, True)
        temporary = f"{path}.new"
        _copy(fd, temporary, head)
        for number in range(max_files - 1, 0, -1):
            if os.path.exists(f"{path}.{number}"):
                os.replace(f"{path}.{number}", f"{path}.{number + 1}")
        os.replace(temporary, f"{path}.1")
        lossless = _fallocate(fd, _COLLAPSE_RANGE, 0, head) == 0
        if not lossless:
            os.ftruncate(fd, 0)
        return Rotation(True, lossless)
    finally:
        os.close(fd)


def _copy(fd: int, path: str, count: int) -> None:
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        at = 0
        while at < count:
            sent = os.sendfile(out, fd, at, min(_CHUNK, count - at))
            if sent == 0:
                break
            at += sent
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(out)


def ready_path(path: str) -> str:
    """Where a start that is to say by a newline that it is ready says so; `path` is that of its output."""
    return f"{path}.ready"


def said_ready(path: str) -> bool:
    """Whether that start has written a newline."""
    try:
        with open(ready_path(path), "rb") as file:
            return b"\n" in file.read(_BLOCK)
    except FileNotFoundError:
        return False


def prune_starts(path: str, keep: int) -> None:
    """Of a worker whose newest start writes to `path` (UID.START.log): keeps the files of the newest `keep` starts."""
    head, start, _ = path.rsplit(".", 2)
    missing = 0
    for number in range(int(start) - keep, 0, -1):
        found = parts(f"{head}.{number}.log")
        for part in found:
            os.unlink(part)
        with suppress(FileNotFoundError):
            os.unlink(ready_path(f"{head}.{number}.log"))
        missing = 0 if found else missing + 1
        if missing > GAP:
            return


GAP = 8
"""So many starts in a row may have left no file, because they failed before it was opened."""


def parts(path: str) -> list[str]:
    """The files of one output, oldest first: rotated parts, then the one that grows."""
    found = [path] if os.path.exists(path) else []
    number = 1
    while os.path.exists(f"{path}.{number}"):
        found.append(f"{path}.{number}")
        number += 1
    return found[::-1]
