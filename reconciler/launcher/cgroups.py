"""Cgroups that hold limits: one of its own for each limited instance, in every hierarchy that has a wanted controller.

    v1   <mount of memory|cpu|pids>/<own>/reconciler-<state dir>/<instance>
    v2   <base>/reconciler-<state dir>-limits/<instance>     base: where controllers can be handed on
                                                             (the root, or the delegated cgroup above our own)

Contract: nothing is made or read for a start without limits. The limits stand before the process is moved in, and it moves
itself before its exec, so that they hold from its first instruction. What this machine cannot enforce is said, never guessed.
"""

from __future__ import annotations

import errno
import os
from _blake2 import blake2b
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .failure import StartFailed
from .protocol import Limits

PERIOD_US = 100_000
"""Of the CPU quota: the kernel's own default."""


class File(NamedTuple):
    """One setting: which file of a cgroup gets which text; `needed` is false where not every kernel has the file."""

    name: str
    text: str
    needed: bool = True


class Place(NamedTuple):
    """Where instances get their cgroups for one controller."""

    version: int
    base: str
    parent: str


def settings(version: int, limits: Limits) -> dict[str, list[File]]:
    """What is written for these limits, by controller."""
    found: dict[str, list[File]] = {}
    if limits.memory_bytes is not None:
        text = str(limits.memory_bytes)
        if version == 1:  # memory first: what both may be together is never less than it
            found["memory"] = [
                File("memory.limit_in_bytes", text),
                File("memory.memsw.limit_in_bytes", text, needed=False),
            ]
        else:  # swap is no way out, and a tree that ran out of memory is of no use in parts
            found["memory"] = [
                File("memory.max", text),
                File("memory.swap.max", "0", needed=False),
                File("memory.oom.group", "1", needed=False),
            ]
    if limits.cpu_milli is not None:
        quota_us = limits.cpu_milli * PERIOD_US // 1000
        found["cpu"] = (
            [File("cpu.cfs_period_us", str(PERIOD_US)), File("cpu.cfs_quota_us", str(quota_us))]
            if version == 1
            else [File("cpu.max", f"{quota_us} {PERIOD_US}")]
        )
    if limits.cpu_weight is not None:
        weight = limits.cpu_weight
        share = (
            File("cpu.shares", str(max(2, weight * 1024 // 100))) if version == 1 else File("cpu.weight", str(weight))
        )
        found.setdefault("cpu", []).append(share)
    if limits.pids is not None:
        found["pids"] = [File("pids.max", str(limits.pids))]
    return found


class Cgroups:
    """The limited instances of one state directory."""

    def __init__(self, state_dir: str, complain: Callable[[str], None], use_cgroup: bool = True) -> None:
        self._complain = complain
        self._name = f"reconciler-{blake2b(os.fsencode(state_dir), digest_size=4).hexdigest()}"
        self._use = use_cgroup
        self._places: dict[str, Place] = {}
        self._why: dict[str, str] = {}
        self._left: set[str] = set()
        """Cgroups whose last processes were not gone when they were to be removed."""
        self.look()
        self._used = any(os.path.isdir(place.parent) for place in self._places.values())

    def look(self) -> None:
        """Finds out what can be limited here."""
        for controller in ("memory", "cpu", "pids"):
            found = _place(controller, self._name) if self._use else "cgroups are switched off (--no-cgroup)"
            if isinstance(found, Place):
                self._places[controller] = found
            else:
                self._why[controller] = found

    def about(self) -> dict[str, str]:
        """For people: what can be limited and where, or why not."""
        return {controller: f"cgroup v{place.version} {place.base}" for controller, place in self._places.items()} | {
            controller: f"no: {why}" for controller, why in self._why.items()
        }

    def lacking(self, limits: Limits) -> dict[str, str]:
        """Wanted limits that cannot be enforced on this machine, and why."""
        return {controller: self._why[controller] for controller in settings(1, limits) if controller in self._why}

    def prepare(self, instance: str, limits: Limits) -> list[str]:
        """Makes its cgroups with their limits; returns the `cgroup.procs` that the process is to enter.

        A limit that cannot be set is left out and complained of; raises StartFailed where they are required.
        """
        wanted = settings(1, limits).keys()
        entered: list[str] = []
        for controller in wanted:
            place = self._places.get(controller)
            if place is None:
                if limits.required:
                    raise StartFailed(
                        "cgroup", errno.EOPNOTSUPP, f"{controller} cannot be limited: {self._why[controller]}"
                    )
                continue
            leaf = f"{place.parent}/{_leaf_name(instance)}"
            try:
                self._make(place, controller, leaf)
                for file in settings(place.version, limits)[controller]:
                    _set(f"{leaf}/{file.name}", file)
            except OSError as error:
                text = f"{controller} cannot be limited: {error.filename or leaf}: {error.strerror}"
                passing = error.errno in (errno.EMFILE, errno.ENFILE)  # the next try may have what this one lacked
                if limits.required or passing:
                    self.remove(instance)
                    raise StartFailed("cgroup", error.errno or errno.EIO, text) from None
                self._complain(f"{instance}: {text}")
            if os.path.isdir(leaf) and f"{leaf}/cgroup.procs" not in entered:
                entered.append(f"{leaf}/cgroup.procs")
        return entered

    def unified(self, instance: str) -> str | None:
        """Its cgroup of version 2, if it has one with limits."""
        for leaf in self._leaves(instance):
            if os.path.exists(f"{leaf}/cgroup.events"):
                return leaf
        return None

    def oom_kills(self, instance: str) -> int:
        """How many of its processes the kernel has killed because they went beyond their memory."""
        place = self._places.get("memory")
        if not self._used or place is None:
            return 0
        name = "memory.oom_control" if place.version == 1 else "memory.events"
        try:
            with open(f"{place.parent}/{_leaf_name(instance)}/{name}", "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return 0  # it has no limit
        return next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), 0)

    def remove(self, instance: str) -> None:
        """Takes away its cgroups once nothing of it lives."""
        self._left.update(self._leaves(instance))
        for leaf in list(self._left):
            try:
                os.rmdir(leaf)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY:
                    self._complain(f"{leaf} could not be removed: {error.strerror}")
                else:
                    continue  # somebody of it is still on its way out: the next removal tries again
            self._left.discard(leaf)

    def close(self) -> None:
        """Takes the parents away when nothing is in them."""
        parents = {place.parent for place in self._places.values() if os.path.isdir(place.parent)}
        self._left.update(entry.path for parent in parents for entry in os.scandir(parent) if entry.is_dir())
        self.remove("")
        for parent in parents:
            try:
                os.rmdir(parent)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
                    self._complain(f"{parent} could not be removed: {error.strerror}")

    def _make(self, place: Place, controller: str, leaf: str) -> None:
        self._used = True
        if not os.path.isdir(place.parent):
            os.mkdir(place.parent, 0o755)
        if place.version == 2:
            for directory in (place.base, place.parent):
                hand_on(directory, controller)
        if not os.path.isdir(leaf):
            os.mkdir(leaf, 0o755)

    def _leaves(self, instance: str) -> Iterator[str]:
        if self._used and instance:
            for parent in {place.parent for place in self._places.values()}:
                leaf = f"{parent}/{_leaf_name(instance)}"
                if os.path.isdir(leaf):
                    yield leaf


def hand_on(directory: str, controller: str) -> None:
    """Lets the children of a cgroup of version 2 have a controller. Raises OSError; EBUSY when processes live in it."""
    path = f"{directory}/cgroup.subtree_control"
    with open(path, "rb") as file:
        if controller.encode() in file.read().split():
            return
    _write(path, f"+{controller}")


def _leaf_name(instance: str) -> str:
    # never from a name: it would have to be checked for every meaning that a path can have
    return blake2b(instance.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()


def _place(controller: str, name: str) -> Place | str:
    """Where this controller can be used, or why it cannot."""
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    with open("/proc/self/cgroup") as file:
        own = {names: path for _, names, path in (line.rstrip("\n").split(":", 2) for line in file)}
    for fields in mounts:
        dash = fields.index("-")
        root, point, kind, options = fields[3], fields[4], fields[dash + 1], fields[-1].split(",")
        if kind == "cgroup" and controller in options:
            path = next((path for names, path in own.items() if controller in names.split(",")), "/")
            base = _below(point, root, path)
            if not os.access(base, os.W_OK):
                return f"{base} is not writable"
            return Place(1, base, f"{base}/{name}")
    for fields in mounts:
        if fields[fields.index("-") + 1] == "cgroup2":
            return _place_v2(controller, fields[4], _below(fields[4], fields[3], own.get("", "/")), name)
    return "no cgroups are mounted"


def _below(point: str, root: str, path: str) -> str:
    """A path of a hierarchy as it is seen through a mount of it that may show a part only."""
    if path == root or path.startswith(root.rstrip("/") + "/"):
        return (point + "/" + path[len(root.rstrip("/")) :].strip("/")).rstrip("/")
    return point


def _place_v2(controller: str, point: str, own: str, name: str) -> Place | str:
    """Only a cgroup without processes of its own can hand controllers on; the root of all is exempt."""
    above = os.path.dirname(own)
    if own != point and _delegated(above):
        base = above
    elif not os.path.exists(f"{point}/cgroup.type"):
        base = point
    else:
        return f"{own} holds processes, so nothing can be limited below it: start it in a cgroup below a delegated one"
    with open(f"{base}/cgroup.controllers") as file:
        if controller not in file.read().split():
            return f"{base} has no {controller} controller"
    if not os.access(f"{base}/cgroup.subtree_control", os.W_OK):
        return f"{base} is not writable"
    return Place(2, base, f"{base}/{name}-limits")


def _delegated(directory: str) -> bool:
    """Whether it was given to us: by the word of a service manager, or by its owner where we are not root."""
    for attribute in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(directory, attribute) == b"1":
                return True
        except OSError:
            continue  # it has none, or nobody may ask
    return os.geteuid() != 0 and os.access(f"{directory}/cgroup.subtree_control", os.W_OK)


def _set(path: str, file: File) -> None:
    try:
        _write(path, file.text)
    except FileNotFoundError:
        if file.needed:
            raise


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def enter(paths: Sequence[str]) -> None:
    """Moves this process in. For the forked child. Raises StartFailed."""
    for path in paths:
        try:
            _write(path, "0")
        except OSError as error:
            raise StartFailed("cgroup", error.errno or errno.EIO, f"{path}: {error.strerror}") from None
