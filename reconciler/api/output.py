"""Streams what processes wrote: the last lines, then whatever comes, across rotation and restarts.

    web-0.log.2  web-0.log.1  web-0.log        oldest first, as the daemon lists them
                            ^ at               a place is (inode, offset); rotation moves bytes to an older, new inode

Bytes pass as they are. Files are opened without following links, and only those that the daemon names.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from reconciler.api.base import LogFile

CHUNK_BYTES = 64 << 10
_SETTLE_S = 0.02


class Seen(NamedTuple):
    """One file as it stands now."""

    path: str
    inode: int
    size_bytes: int
    written_at_s: float


@dataclass
class Place:
    """How far the reader is. `known` are the files it has read or passed over, as (inode, time of the last write): inode
    numbers alone are soon used again."""

    inode: int = 0
    offset: int = 0
    known: frozenset[tuple[int, float]] = frozenset()

    def move(self, seen: Sequence[Seen]) -> None:
        """To the end of all that is seen."""
        if seen:
            self.inode, self.offset = seen[-1].inode, seen[-1].size_bytes
            self.known = frozenset((file.inode, file.written_at_s) for file in seen)


async def stream(
    files: Callable[[], Sequence[LogFile]],
    tail: int | None,
    since_s: float,
    follow: Callable[[], Awaitable[bool]] | None,
    skip: Mapping[str, int] = MappingProxyType({}),
) -> AsyncIterator[bytes]:
    """The bytes of `files()` from its last `tail` lines on; `follow` waits for more and says whether some may come.

    `since_s` leaves out files last written before that moment (seconds since 1970), `skip` the first bytes of others.
    """
    place = Place()
    pieces = await asyncio.to_thread(_begin, files(), tail, since_s, place, skip)
    for path, inode, start, end in pieces:
        async for block in _blocks(path, inode, start, end):
            yield block
    more = follow is not None
    while more:
        assert follow is not None
        more = await follow()
        for path, inode, start, end in await asyncio.to_thread(_advance, files(), place):
            async for block in _blocks(path, inode, start, end):
                yield block


Piece = tuple[str, int, int, int]


def advance(seen: Sequence[Seen], place: Place) -> list[Piece]:
    """What is new since `place`, as pieces of files in order; moves the place to the end of it."""
    at = next((i for i, file in enumerate(seen) if file.inode == place.inode), None)
    if at is None:
        fresh = [file for file in seen if _new(file, place)]
        pieces = [(file.path, file.inode, 0, file.size_bytes) for file in fresh]
    else:
        first, ours = at, f"{seen[at].path}."
        while first > 0 and _new(seen[first - 1], place) and seen[first - 1].path.startswith(ours):
            first -= 1  # rotation has moved the head of our file there
        pieces, skip = [], place.offset
        for file in seen[first:]:
            start = min(skip, file.size_bytes)
            skip = skip - start if file.inode != place.inode and skip else 0
            pieces.append((file.path, file.inode, start, file.size_bytes))
    place.move(seen)
    return [piece for piece in pieces if piece[2] < piece[3]]


def _new(file: Seen, place: Place) -> bool:
    return (file.inode, file.written_at_s) not in place.known


def _begin(
    files: Sequence[LogFile], tail: int | None, since_s: float, place: Place, skip: Mapping[str, int]
) -> list[Piece]:
    seen = _look(files)
    pieces = advance([file for file in seen if file.written_at_s >= since_s], place)
    pieces = [
        (path, inode, begin, end)
        for path, inode, start, end in pieces
        if (begin := max(start, skip.get(path, 0))) < end
    ]
    place.move(seen)
    return pieces if tail is None else _last_lines(pieces, tail)


def _advance(files: Sequence[LogFile], place: Place) -> list[Piece]:
    seen = _look(files)
    if any(_new(file, place) for file in seen[:-1]):
        time.sleep(_SETTLE_S)  # a rotation may be between its copy and the cut of what it copied
        seen = _look(files)
    return advance(seen, place)


def _look(files: Sequence[LogFile]) -> list[Seen]:
    seen = []
    for file in files:
        try:
            facts = os.stat(file.path, follow_symlinks=False)
        except FileNotFoundError:  # removed because it was empty, or rotated out of existence
            continue
        if stat.S_ISREG(facts.st_mode):
            seen.append(Seen(file.path, facts.st_ino, facts.st_size, facts.st_mtime))
    return seen


def _last_lines(pieces: list[Piece], count: int) -> list[Piece]:
    """Cuts the pieces down to their last `count` lines, reading backwards."""
    if count <= 0:
        return []
    kept: list[Piece] = []
    newest = True
    for path, inode, start, end in reversed(pieces):
        fd = _open(path, inode)
        if fd is None:
            continue
        try:
            at = end
            while at > start:
                low = max(start, at - CHUNK_BYTES)
                block = os.pread(fd, at - low, low)
                stop = len(block)
                if newest and block.endswith(b"\n"):
                    stop -= 1  # the last line's own end does not begin another
                newest = False
                while (stop := block.rfind(b"\n", 0, stop)) >= 0:
                    count -= 1
                    if count == 0:
                        return [(path, inode, low + stop + 1, end), *kept]
                at = low
        finally:
            os.close(fd)
        kept.insert(0, (path, inode, start, end))
    return kept


async def _blocks(path: str, inode: int, start: int, end: int) -> AsyncIterator[bytes]:
    fd = await asyncio.to_thread(_open, path, inode)
    if fd is None:
        return
    try:
        while start < end:
            block = await asyncio.to_thread(os.pread, fd, min(CHUNK_BYTES, end - start), start)
            if not block:
                return
            start += len(block)
            yield block
    finally:
        os.close(fd)


def _open(path: str, inode: int) -> int | None:
    """The file, if it still is the one that was seen under this name."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    if os.fstat(fd).st_ino != inode:
        os.close(fd)
        return None
    return fd
