"""Opens log files below one directory, and nowhere else.

    DIR/logs/web-0.log        a worker's          DIR/logs/batch/00/4711.log        a task's

Files are 0600 and O_APPEND, so that rotation can cut them under a running writer; every step of a path is taken relative
to a directory descriptor and follows no link, and what is opened is a regular file. Parents are made when missing.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that somebody put there must not stop the launcher
_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK

_CACHED = 128


class Logs:
    """The log directory, with descriptors of the last used ones below it."""

    def __init__(self, directory: str) -> None:
        self._root = os.open(directory, _DIRECTORY)
        self._parents: dict[str, int] = {}

    def open(self, path: str) -> int:
        """A descriptor to append to. Raises OSError; EINVAL for a path that leaves the directory."""
        parent, _, name = _checked(path).rpartition("/")
        try:
            fd = os.open(name, _FILE, 0o600, dir_fd=self._parent(parent))
        except FileNotFoundError:  # somebody removed the directory whose descriptor is cached
            self._drop(parent)
            fd = os.open(name, _FILE, 0o600, dir_fd=self._parent(parent))
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            os.set_blocking(fd, True)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def finish(self, path: str, drop_empty: bool) -> int:
        """Its size in bytes now that its writer has ended; an empty one is removed when asked for."""
        parent, _, name = path.rpartition("/")
        try:
            fd = self._parent(parent)
            size_bytes = os.stat(name, dir_fd=fd, follow_symlinks=False).st_size
            if drop_empty and size_bytes == 0:
                os.unlink(name, dir_fd=fd)
        except OSError:  # removed meanwhile: nothing to read there
            self._drop(parent)
            return 0
        return size_bytes

    def _parent(self, path: str) -> int:
        if not path:
            return self._root
        fd = self._parents.get(path)
        if fd is not None:
            return fd
        while len(self._parents) >= _CACHED:
            self._drop(next(iter(self._parents)))
        fd = os.dup(self._root)
        try:
            for step in path.split("/"):
                deeper = _enter(fd, step)
                os.close(fd)
                fd = deeper
        except BaseException:
            os.close(fd)
            raise
        self._parents[path] = fd
        return fd

    def _drop(self, path: str) -> None:
        fd = self._parents.pop(path, None)
        if fd is not None:
            os.close(fd)


def _enter(parent: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        with suppress(FileExistsError):  # the controller was faster
            os.mkdir(name, 0o700, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _checked(path: str) -> str:
    if not path or any(step in ("", ".", "..") for step in path.split("/")) or "\0" in path:
        raise OSError(errno.EINVAL, "a log path stays below the log directory", path)
    return path
