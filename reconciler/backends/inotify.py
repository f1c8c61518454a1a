"""Hints of the kernel that something has changed, on the running asyncio loop, without a thread and without a poll.

    add(path, mask) -> number      a change -> heard([(number, mask), ...]), in the loop's thread
                                   gone, or heard ONCE: (number, IGNORED): the number means nothing any more

`OVERFLOW` comes with the number -1: something was lost, so everything may have changed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Sequence

MODIFY = 0x2
ATTRIB = 0x4
CLOSE_WRITE = 0x8
MOVED = 0xC0
CREATE = 0x100
DELETE = 0x200
SELF = 0xC00
"""What is watched itself was removed or renamed."""
OVERFLOW = 0x4000
IGNORED = 0x8000
ONLY_DIRECTORY = 0x1000000
DIRECTORY = 0x40000000
"""What it is about is a directory."""
ONCE = 0x80000000

_libc = ctypes.CDLL(None, use_errno=True)
_init, _add, _remove = _libc.inotify_init1, _libc.inotify_add_watch, _libc.inotify_rm_watch
_add.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_HEAD = struct.Struct("iIII")  # number, mask, cookie, length of the name that follows
_READ_BYTES = 1 << 16


class Inotify:
    """One inotify instance. Raises OSError where none can be had: a user has 128 of them."""

    def __init__(self, heard: Callable[[Sequence[tuple[int, int]]], None]) -> None:
        self._heard = heard
        self._fd = _checked(_init(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def add(self, path: str, mask: int) -> int:
        """Watches what stands at the path; the same thing twice has one number. Raises OSError; any thread."""
        return _checked(_add(self._fd, os.fsencode(path), mask), path)

    def remove(self, number: int) -> None:
        """Watches it no longer; one that is unknown by now is no matter."""
        _remove(self._fd, number)

    def close(self) -> None:
        """Lets go of everything."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _readable(self) -> None:
        data = os.read(self._fd, _READ_BYTES)
        found = []
        at = 0
        while at < len(data):
            number, mask, _, name_bytes = _HEAD.unpack_from(data, at)
            found.append((number, mask))
            at += _HEAD.size + name_bytes
        self._heard(found)


def _checked(result: int, path: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
