"""A resource that checks tokens: a file of lines that refuses every token below the largest it has seen."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Stale(Exception):
    """The token is smaller than one that has been here."""


class FencedFile:
    """Each line is TOKEN WHO; the tokens in it never fall."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, token: int, who: str) -> None:
        """Adds a line. Raises Stale, and writes nothing."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            tail = os.pread(fd, 4096, max(0, size - 4096)).decode().splitlines()
            largest = int(tail[-1].split()[0]) if tail else 0
            if token < largest:
                raise Stale(f"token {token}, but {largest} has been here")
            os.write(fd, f"{token} {who}\n".encode())
        finally:
            os.close(fd)

    def lines(self) -> list[tuple[int, str]]:
        """What was written, in order."""
        text = self.path.read_text() if self.path.exists() else ""
        return [(int(token), who) for token, who in (line.split(maxsplit=1) for line in text.splitlines())]
