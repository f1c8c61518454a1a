"""The lock that makes one process the only one to write a store: held for life, and with the file that it was taken on.

DIR/store.lock   its holder's pid, and the id of the store
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from reconciler.errors import Conflict

_HELD: set[int] = set()
"""Descriptors of lock files held by this process."""


def _let_go_in_child() -> None:
    for fd in _HELD:
        os.close(fd)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go_in_child)  # a child that never executes would hold the lock after us


def release(fd: int) -> None:
    """Gives it back at once, whoever may have inherited the descriptor."""
    _HELD.discard(fd)
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def hold(path: Path) -> tuple[int, str]:
    """Takes the lock for life; returns its descriptor and the id of the store that was held under it, if any."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid, _, store_id = os.pread(fd, 64, 0).decode(errors="replace").strip().partition("\n")
        except BlockingIOError:
            pid = os.pread(fd, 64, 0).decode(errors="replace").partition("\n")[0]
            os.close(fd)
            raise Conflict(
                f"{path.parent} is in use by process {pid or '(unknown)'}", "stop that one, or choose another --state"
            ) from None
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                _HELD.add(fd)
                return fd, store_id
        os.close(fd)  # it was removed between the two calls: what we hold is a lock on nothing
