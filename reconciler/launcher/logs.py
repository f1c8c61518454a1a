"""Opens log files below one directory, and nowhere else.

    DIR/logs/web-0.log        a worker's          DIR/logs/batch/00/4711.log        a task's

Files are 0600 and O_APPEND, so that rotation can cut them under a running writer; every step of a path is taken relative
to a directory descriptor and follows no link, and what is opened is a regular file. Parents are made when missing.

Most tasks write nothing. Their empty files are not removed but renamed to DIR/logs/.spare/ and given to later tasks: ext4
does not reuse an inode that was freed in the last seconds, and looks at each such one whenever a file is made.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that somebody put there must not stop the launcher
_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK

_AGAIN = _FILE & ~os.O_CREAT

_CACHED = 128

_SPARE, _SPARES = ".spare", 64


class Logs:
    """The log directory, with descriptors of the last used ones below it."""

    def __init__(self, directory: str) -> None:
        self._root = os.open(directory, _DIRECTORY)
        self._parents: dict[str, int] = {}
        self._spare_directory = _enter(self._root, _SPARE)
        for name in os.listdir(self._spare_directory):
            os.unlink(name, dir_fd=self._spare_directory)
        self._spare: list[tuple[str, int]] = []
        self._spare_count = 0

    def open(self, path: str) -> int:
        """A descriptor to append to. Raises OSError; EINVAL for a path that leaves the directory."""
        parent, _, name = _checked(path).rpartition("/")
        if self._spare and (fd := self._take_spare(parent, name)) is not None:
            return fd
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

    def size_bytes(self, path: str) -> int:
        """How much its writer has left."""
        parent, _, name = path.rpartition("/")
        try:
            return os.stat(name, dir_fd=self._parent(parent), follow_symlinks=False).st_size
        except OSError:  # removed meanwhile: nothing to read there
            self._drop(parent)
            return 0

    def drop(self, path: str, reuse: bool) -> None:
        """Takes away a log that was told to be empty; `reuse`: nobody can write to it any more."""
        parent, _, name = path.rpartition("/")
        try:
            directory = self._parent(parent)
            if not (reuse and len(self._spare) < _SPARES and self._make_spare(directory, name)):
                os.unlink(name, dir_fd=directory)
        except OSError:  # removed meanwhile
            self._drop(parent)

    def _make_spare(self, directory: int, name: str) -> bool:
        fd = os.open(name, _AGAIN, dir_fd=directory)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size or found.st_nlink != 1:
                os.close(fd)
                return False
            self._spare_count += 1
            spare = str(self._spare_count)
            os.rename(name, spare, src_dir_fd=directory, dst_dir_fd=self._spare_directory)
            os.set_blocking(fd, True)
        except OSError:
            os.close(fd)
            raise
        self._spare.append((spare, fd))
        return True

    def _take_spare(self, parent: str, name: str) -> int | None:
        """None when something is there already, or the directory is not: then it is opened in the ordinary way."""
        try:
            directory = self._parent(parent)
            os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            return None
        spare, fd = self._spare.pop()
        try:
            os.rename(spare, name, src_dir_fd=self._spare_directory, dst_dir_fd=directory)
        except OSError:
            os.close(fd)
            return None
        return fd

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
