"""The largest token ever given of each lock, in a file of its own beside the store.

    lock-tokens      warehouse 17         a line is added and synced before the token leaves
                     registry 4           the last line of a name counts; a torn last line was never given

A store that is restored from a backup, or a lock that is deleted and made anew, begins above these.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import StoreBroken
from reconciler.store.base import StoreFull

LONGEST_BYTES = 1 << 20
"""A longer file is written anew."""


class Tokens:
    """The largest tokens, in memory: for where nothing outlives the process."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}
        self._unsaved: dict[str, int] = {}

    def floor(self, lock: str) -> int:
        """The largest token of that lock."""
        return self._highest.get(lock, 0)

    def given(self, lock: str, token: int) -> None:
        """This token is going to be given; `save` comes before it leaves."""
        if token > self._highest.get(lock, 0):
            self._highest[lock] = self._unsaved[lock] = token

    def save(self) -> None:
        """Makes all of them durable. Raises StoreFull, and is tried again then; StoreBroken."""
        self._unsaved.clear()


class TokenFile(Tokens):
    """The largest tokens, durable. Nothing is written before a token is given: a daemon begins on a full disk too."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        found = path.read_bytes() if path.exists() else b""
        lines = found.split(b"\n")
        self._size_bytes = len(found) - len(lines.pop())  # a torn last line is written over
        for line in lines:
            name, _, number = line.decode("ascii", "replace").partition(" ")
            if number.isascii() and number.isdigit():
                self._highest[name] = max(int(number), self._highest.get(name, 0))

    def save(self) -> None:
        if not self._unsaved:
            return
        try:
            if self._size_bytes > LONGEST_BYTES or not self._path.exists():
                self._rewrite()
            else:
                self._append()
        except OSError as error:
            where = f"{self._path}: {error.strerror}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise StoreFull(where, "make room on the disk, or mount it writable; it goes on by itself") from None
            raise StoreBroken(where, "the state directory must belong to whoever runs the daemon") from None
        self._unsaved.clear()

    def _append(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self._size_bytes += _write(fd, self._unsaved, self._size_bytes)
        finally:
            os.close(fd)

    def _rewrite(self) -> None:
        new = self._path.with_name(self._path.name + ".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size_bytes = _write(fd, self._highest, 0)
        finally:
            os.close(fd)
        os.rename(new, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._size_bytes = size_bytes


def _write(fd: int, tokens: Mapping[str, int], at_byte: int) -> int:
    """Adds a line for each, durable when it returns; how many bytes that were."""
    text = "".join(f"{name} {token}\n" for name, token in tokens.items()).encode()
    done = 0
    while done < len(text):
        done += os.pwrite(fd, text[done:], at_byte + done)
    os.fdatasync(fd)
    return done
