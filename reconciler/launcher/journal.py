"""The launcher's own memory on disk: what it is about to start, what it started, what ended, until it is acknowledged.

    DIR/launcher.journal        one write a turn, one line a write: a JSON array of records; never fsynced

    ["head", version, boot id, seq]
    ["intent", key, instance, stop signal, grace ms, lane, slot, log, boottime ms, contain, uid, spare]  before the start
    ["pid", instance, pid, started ms, pidfd inode or start ticks]                                       after it
    ["exit", seq, key, instance, Exit]                                                                   before the reap
    ["emptied", instance]   ["ack", seq]   ["acked", instance]

It survives the death of a process, not of the machine: after a power cut no process is left to adopt. It never holds an
argument or an environment value. The holder of the launcher's lock is the only writer.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

NAME = "launcher.journal"
COMPACT_AT_BYTES = 4 << 20

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, ensure_ascii=True).encode

Record = Sequence[Any]


def read(directory: str, complain: Callable[[str], None]) -> list[list[Any]]:
    """The records of an earlier launcher; a torn last line is none, a garbled one is complained of and skipped."""
    path = os.path.join(directory, NAME)
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    lines.pop()  # empty after the last newline, or torn in the middle of a write
    records: list[list[Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if (
            isinstance(found, list)
            and found
            and all(isinstance(r, list) and r and isinstance(r[0], str) for r in found)
        ):
            records += found
        else:
            complain(f"{path}:{number}: no records, skipped: {line[:60]!r}")
    return records


class Journal:
    """Appends. A write that failed leaves no trace in the file; `behind` is its errno until a compaction succeeds."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, NAME)
        self._fd = -1
        self._size_bytes = 0
        self._compact_at_bytes = COMPACT_AT_BYTES
        self.behind = 0

    def append(self, records: Sequence[Record]) -> None:
        """Raises OSError when it could not be written; the file is then as it was before."""
        line = _line(records)
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        except OSError as error:
            self.behind = error.errno or errno.EIO
            os.ftruncate(self._fd, self._size_bytes)
            raise
        self._size_bytes += written

    def full(self) -> bool:
        """It is time to compact."""
        return not self.behind and self._size_bytes > self._compact_at_bytes

    def postpone(self) -> None:
        """A compaction has failed: try again only after as much again has been written."""
        self._compact_at_bytes = self._size_bytes + COMPACT_AT_BYTES

    def compact(self, records: Iterable[Record]) -> None:
        """Writes the live state to a new file and puts it in the place of the old one.

        Raises OSError when that could not be done; the old file is then still in use.
        """
        temporary = self._path + ".new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        size_bytes = 0
        try:
            some: list[Record] = []
            for record in records:
                some.append(record)
                if len(some) == 1_000:
                    size_bytes += _write_all(fd, _line(some))
                    some.clear()
            if some:
                size_bytes += _write_all(fd, _line(some))
            os.rename(temporary, self._path)
        except BaseException:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size_bytes, self.behind = fd, size_bytes, 0
        self._compact_at_bytes = max(COMPACT_AT_BYTES, 2 * size_bytes)


def _line(records: Sequence[Record]) -> bytes:
    """All records of one append: encoding them together takes a third of the time of one by one."""
    return (_encode(records) + "\n").encode("ascii")


def _write_all(fd: int, data: bytes) -> int:
    at = 0
    while at < len(data):
        at += os.write(fd, data[at:])
    return at
