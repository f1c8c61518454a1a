"""A lock on a file: no daemon, one host, the same meaning of its token.

    PATH          held with flock while this process has it open: given back however it ends
    PATH.token    the largest token ever given; locked by itself for the moment in which it is raised

A file that was deleted or replaced while somebody waited for it is not the one that others lock: the name is looked at
again after every lock. There is no lease: a holder that is stopped keeps it.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Self

from reconciler.coordination.session import TimedOut
from reconciler.errors import LockLost

_FIRST_TRY_S, _LONGEST_TRY_S = 0.002, 0.1


class FileLock:
    """Held from its making until `release`; a context manager. Raises TimedOut, OSError."""

    def __init__(self, path: str | Path, timeout_s: float | None = None) -> None:
        self.path = Path(path).absolute()
        self._fd = _locked(self.path, timeout_s)
        try:
            self.token = _raised(self.path.with_name(self.path.name + ".token"))
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def lost(self) -> bool:
        """Whether the file was deleted or replaced: another may hold the new one."""
        return self._fd < 0 or not _is_at(self._fd, self.path)

    def check(self) -> None:
        """Raises LockLost when another may hold it."""
        if self.lost:
            raise LockLost(f"{self.path} is not the file that was locked", "never delete a file that others lock")

    def release(self) -> bool:
        """Gives it back; whether it was held. The files stay."""
        if self._fd < 0:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)  # at once, whatever child may have inherited the descriptor
        os.close(self._fd)
        self._fd = -1
        return True


def _locked(path: Path, timeout_s: float | None) -> int:
    """The descriptor of the file at that path, locked."""
    ends_s = None if timeout_s is None else time.monotonic() + timeout_s
    wait_s = _FIRST_TRY_S
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if ends_s is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, path):
                return fd
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if ends_s is not None and time.monotonic() >= ends_s:
            raise TimedOut(f"{path} was not had in time", "wait longer: --timeout")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_TRY_S)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _raised(path: Path) -> int:
    """The next token, durable before it is used."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # its own: should the lock's file be deleted, two holders still get two tokens
        text = os.pread(fd, 32, 0).strip()
        if text and not text.isdigit():
            raise OSError(22, f"holds no token: {text!r}", str(path))
        token = int(text or 0) + 1
        os.pwrite(fd, f"{token:020}\n".encode(), 0)  # always as long, within one sector: never torn
        os.fsync(fd)
    finally:
        os.close(fd)
    return token
