"""What a tree of processes uses, from two looks at the whole of /proc. Pure.

    look before ─┐        own       Σ what each member used itself since then; all of it for one that is new
                 ├─> CPU  waited    Σ what members took over from children that have ended
    look now ────┘        gone      Σ what members that have ended had used before: it has been counted already

                          used = own + max(0, waited - gone)

A look is not one moment: a process may end, or its number may be given away, while others are read. Numbers alone say
nothing, therefore; a process is (pid, start).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from struct import Struct
from typing import NamedTuple

HISTORY = 100
"""So many samples are kept of each worker and pool."""
SHORTEST_S = 0.1
"""The kernel counts CPU in hundredths of a second: over less than this no percentage means anything."""


class Stat(NamedTuple):
    """A process, as /proc/PID/stat has it."""

    start: int
    """Ticks since the machine's start: with the pid, who it is."""
    parent: int
    session: int
    own_ticks: int
    waited_ticks: int
    """CPU of children that have ended and been waited for."""
    threads: int
    virtual_bytes: int
    resident_pages: int
    zombie: bool
    stopped: bool = False
    """By SIGSTOP, by reading from a terminal in the background, by a debugger."""


class Root(NamedTuple):
    """A process that the daemon has started, of which everything below belongs to one worker or task."""

    key: str
    """worker/web-0, task/17"""
    instance: str
    """Which start of it; RECONCILER_INSTANCE in its environment."""
    pid: int
    pool: str


class Look(NamedTuple):
    """All processes of the machine, read one after another."""

    at_s: float
    """Since the machine's start."""
    stats: Mapping[int, Stat]
    trees: Mapping[str, Sequence[int]]
    """The members of each root's tree, by its key."""
    open_files: Mapping[str, int]


class Sample(NamedTuple):
    """What one tree used at a moment."""

    at: datetime
    cpu_percent: float | None
    """Of one core, since the sample before; of the first sample since the start; None right after a start."""
    memory_bytes: int
    """Resident; pages that members share are counted for each."""
    virtual_memory_bytes: int
    threads: int
    open_files: int
    processes: int
    stopped: bool = False
    """Its first process; of a pool, and of what is past, it is not known."""


def stat(line: bytes) -> Stat:
    """One line of /proc/PID/stat. The program's name may hold anything, brackets and blanks too."""
    words = line[line.rindex(b")") + 2 :].split(b" ", 22)
    return Stat(
        start=int(words[19]),
        parent=int(words[1]),
        session=int(words[3]),
        own_ticks=int(words[11]) + int(words[12]),
        waited_ticks=int(words[13]) + int(words[14]),
        threads=int(words[17]),
        virtual_bytes=int(words[20]),
        resident_pages=int(words[21]),
        zombie=words[0] in (b"Z", b"X"),
        stopped=words[0] in (b"T", b"t"),
    )


def identified(
    stats: Mapping[int, Stat], roots: Iterable[Root], starts: Mapping[str, int]
) -> tuple[dict[int, Root], dict[str, int]]:
    """Those whose pid is still theirs, by pid; and when each began, by instance, for the next look.

    Each leads a session of its own. One that has ended is among them while others of its tree may live.
    """
    found: dict[int, Root] = {}
    began: dict[str, int] = {}
    for root in roots:
        one = stats.get(root.pid)
        start = starts.get(root.instance)
        if one is not None and one.session == root.pid and start in (None, one.start):
            start = one.start
        elif one is not None or start is None:
            continue
        found[root.pid] = root
        began[root.instance] = start
    return found, began


def orphans(stats: Mapping[int, Stat], roots: Mapping[int, Root]) -> list[int]:
    """Processes that may have been given away by a parent that ended: they are where the roots are, or with pid 1.

    Only their environment tells whose they are.
    """
    homes = {stats[pid].parent for pid in roots if pid in stats} | {1}
    return [pid for pid, one in stats.items() if one.parent in homes and pid not in roots and one.session not in roots]


def trees(stats: Mapping[int, Stat], roots: Mapping[int, Root], tokens: Mapping[int, str]) -> dict[str, list[int]]:
    """The members of each root's tree: what is in its session, what descends from it, what carries its token."""
    owners: dict[int, str | None] = {pid: root.key for pid, root in roots.items()}
    by_token = {root.instance: root.key for root in roots.values()}
    members: dict[str, list[int]] = {root.key: [] for root in roots.values()}
    for pid in stats:
        way = []
        at = pid
        while at not in owners:
            one = stats.get(at)
            if one is None:
                owners[at] = None
                break
            way.append(at)
            owners[at] = None  # a number given away during the look can close a circle
            if one.session in roots:
                owners[at] = roots[one.session].key
                break
            if at in tokens and tokens[at] in by_token:
                owners[at] = by_token[tokens[at]]
                break
            at = one.parent
        for passed in way:
            owners[passed] = owners[passed] or owners[at]
        owner = owners[pid]
        if owner is not None:
            members[owner].append(pid)
    return members


def used_ticks(before: Look, now: Look, key: str) -> int:
    """CPU that a tree has used between two looks; never less than nothing."""
    own = waited = gone = 0
    for pid in now.trees.get(key, ()):
        one = now.stats[pid]
        was = before.stats.get(pid)
        if was is None or was.start != one.start:
            own += one.own_ticks
            waited += one.waited_ticks
        else:
            own += one.own_ticks - was.own_ticks
            waited += one.waited_ticks - was.waited_ticks
    for pid in before.trees.get(key, ()):
        was = before.stats[pid]
        still = now.stats.get(pid)
        if still is None or still.start != was.start:
            gone += was.own_ticks + was.waited_ticks
    return max(0, own) + max(0, waited - gone)


def sample(
    root: Root, before: Look | None, now: Look, at: datetime, ticks_per_s: int, page_bytes: int
) -> Sample | None:
    """What the tree of a root uses; None if nothing of it is there."""
    members = now.trees.get(root.key)
    if not members:
        return None
    ticks = pages = virtual_bytes = threads = processes = 0
    for pid in members:
        one = now.stats[pid]
        ticks += one.own_ticks + one.waited_ticks
        pages += one.resident_pages
        virtual_bytes += one.virtual_bytes
        threads += one.threads - one.zombie
        processes += not one.zombie or one.threads > 1
    first = now.stats.get(root.pid)
    since_s = first.start / ticks_per_s if first is not None else 0.0
    if before is not None:
        since_s = max(since_s, before.at_s)
        ticks = used_ticks(before, now, root.key)
    took_s = now.at_s - since_s
    return Sample(
        at=at,
        cpu_percent=100 * ticks / ticks_per_s / took_s if took_s >= SHORTEST_S else None,
        memory_bytes=pages * page_bytes,
        virtual_memory_bytes=virtual_bytes,
        threads=threads,
        open_files=now.open_files.get(root.key, 0),
        processes=processes,
        stopped=first is not None and first.stopped,
    )


def total(samples: Iterable[Sample]) -> Sample | None:
    """What a pool uses: the sum of what its workers and tasks use; None if there are none."""
    found = list(samples)
    if not found:
        return None
    known = [one.cpu_percent for one in found if one.cpu_percent is not None]
    return Sample(
        at=found[0].at,
        cpu_percent=sum(known) if known else None,
        memory_bytes=sum(one.memory_bytes for one in found),
        virtual_memory_bytes=sum(one.virtual_memory_bytes for one in found),
        threads=sum(one.threads for one in found),
        open_files=sum(one.open_files for one in found),
        processes=sum(one.processes for one in found),
    )


class History:
    """The last samples of one start, packed: a hundred for each of a thousand workers take four megabytes."""

    __slots__ = ("_count", "_ring", "instance")

    _FORM = Struct("<dfqqiii")
    _NONE = -1.0

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self._ring = bytearray()
        self._count = 0

    def add(self, one: Sample) -> None:
        """The newest; the oldest goes when there are too many."""
        cpu = self._NONE if one.cpu_percent is None else one.cpu_percent
        packed = self._FORM.pack(one.at.timestamp(), cpu, *one[2:7])
        if self._count < HISTORY:
            self._ring += packed
        else:
            place = self._count % HISTORY * self._FORM.size
            self._ring[place : place + self._FORM.size] = packed
        self._count += 1

    def samples(self) -> list[Sample]:
        """Oldest first."""
        found = [
            Sample(datetime.fromtimestamp(at_s, UTC), None if cpu < 0 else cpu, *rest)
            for at_s, cpu, *rest in self._FORM.iter_unpack(self._ring)
        ]
        oldest = self._count % HISTORY if self._count > HISTORY else 0
        return found[oldest:] + found[:oldest]
