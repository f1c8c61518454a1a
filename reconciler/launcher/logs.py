"""Opens log files below one directory, and nowhere else.

    DIR/logs/w/4f2a.7.log        a worker's
    DIR/logs/.spare/12           what a young task writes to      -- name -->     DIR/logs/t/4/4711.1.log

Files are 0600 and O_APPEND, so that rotation can cut them under a running writer; every step of a path is taken relative
to a directory descriptor and follows no link, and what is opened is a regular file. Parents are made when missing.

Most tasks are over at once and have written nothing. So a task writes to a numbered spare file, which gets the name of its
log when the task has written something and ended, or has run for a while; an empty one is lent to the next task as it is.
A file made, renamed or removed for each task costs more than the rest of its bookkeeping: it has to wait for the file
system's own log whenever somebody syncs, and ext4 does not reuse an inode that was freed in the last seconds.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO that somebody put there must not stop the launcher
_FILE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK

_CACHED = 128

_SPARE, _SPARES = ".spare", 64


class Logs:
    """The log directory, with descriptors of the last used ones below it."""

    def __init__(self, directory: str) -> None:
        self._root = os.open(directory, _DIRECTORY)
        self._parents: dict[str, int] = {}
        self._lent: dict[int, int] = {}
        self._blank: list[tuple[int, int]] = []
        self._newest = 0
        self._flags = 0
        """As spares are opened; a task could change that for the next one."""

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

    def size_bytes(self, path: str) -> int:
        """How much its writer has left."""
        parent, _, name = path.rpartition("/")
        try:
            return os.stat(name, dir_fd=self._parent(parent), follow_symlinks=False).st_size
        except OSError:  # removed meanwhile: nothing to read there
            self._drop(parent)
            return 0

    def remove(self, path: str) -> None:
        """Takes away a log that was told to be empty."""
        parent, _, name = path.rpartition("/")
        try:
            os.unlink(name, dir_fd=self._parent(parent))
        except OSError:  # removed meanwhile
            self._drop(parent)

    # -- spares ------------------------------------------------------------------------------------------------------

    def choose(self) -> int:
        """The number of a spare for one task: to be in the journal before `lend`."""
        if self._blank:
            number, fd = self._blank.pop()
            self._lent[number] = fd
            return number
        self._newest += 1
        return self._newest

    def lend(self, number: int) -> int:
        """A descriptor to append to, which stays ours. Raises OSError."""
        fd = self._lent.get(number)
        if fd is None:
            fd = self._lent[number] = self.open(f"{_SPARE}/{number}")
            self._flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        return fd

    def spare_bytes(self, number: int) -> int:
        """How much has been written to it."""
        fd = self._lent.get(number)
        return 0 if fd is None else os.lseek(fd, 0, os.SEEK_END)  # where it appends does not depend on that

    def name(self, number: int, path: str) -> None:
        """Makes the spare the log of that path: its task has something to show, or may have. Raises OSError."""
        parent, _, name = _checked(path).rpartition("/")
        for _ in range(2):
            try:
                directory = self._parent(parent)
                if os.access(name, os.F_OK, dir_fd=directory, follow_symlinks=False):
                    _make_older(name, directory)
                os.rename(f"{_SPARE}/{number}", name, src_dir_fd=self._root, dst_dir_fd=directory)
                break
            except FileNotFoundError:  # somebody removed the directory whose descriptor is cached, or the spare
                self._drop(parent)
        fd = self._lent.pop(number, None)
        if fd is not None:
            os.close(fd)

    def take_back(self, number: int, reuse: bool) -> bool:
        """Its task is over; `reuse`: nobody can write to it any more. False when something is written in it."""
        fd = self._lent.get(number)
        if fd is None:
            return True  # never opened
        if os.lseek(fd, 0, os.SEEK_END):
            return False
        del self._lent[number]
        if reuse and fcntl.fcntl(fd, fcntl.F_GETFL) == self._flags and len(self._blank) < _SPARES:
            self._blank.append((number, fd))
        else:
            os.close(fd)
            self.remove(f"{_SPARE}/{number}")
        return True

    def sweep(self) -> None:
        """Removes what earlier launchers have left there; called once what their tasks wrote has been named."""
        fd = self._parent(_SPARE)
        for name in os.listdir(fd):
            os.unlink(name, dir_fd=fd)

    def close(self) -> None:
        """Takes the unused ones away."""
        for number, fd in self._blank:
            os.close(fd)
            self.remove(f"{_SPARE}/{number}")
        self._blank.clear()

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


def _make_older(name: str, directory: int) -> None:
    """What another life of this state directory has left under that name becomes the older part of the log."""
    last = 1
    while os.access(f"{name}.{last}", os.F_OK, dir_fd=directory, follow_symlinks=False):
        last += 1
    for number in range(last, 1, -1):
        os.rename(f"{name}.{number - 1}", f"{name}.{number}", src_dir_fd=directory, dst_dir_fd=directory)
    os.rename(name, f"{name}.1", src_dir_fd=directory, dst_dir_fd=directory)


def _checked(path: str) -> str:
    if not path or any(step in ("", ".", "..") for step in path.split("/")) or "\0" in path:
        raise OSError(errno.EINVAL, "a log path stays below the log directory", path)
    return path
