"""What limits a running process, by the kernel's own word: /proc and its cgroups, not what was declared.

    rlimits, nice, umask, who it is     /proc/PID/status, limits, autogroup
    memory, cpu, pids                   its cgroup's files; what a cgroup above allows less of counts

Reads only. What may not be read is left out.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from reconciler.resources.pool import Template
from reconciler.resources.units import format_size

_RLIMITS = {
    "Max open files": "nofile", "Max processes": "nproc", "Max core file size": "core", "Max file size": "fsize",
    "Max address space": "as", "Max data size": "data", "Max stack size": "stack", "Max locked memory": "memlock",
    "Max cpu time": "cpu", "Max pending signals": "sigpending", "Max msgqueue size": "msgqueue",
}  # fmt: skip

_SIZES = {"core", "fsize", "as", "data", "stack", "memlock", "msgqueue"}
_NO_MEMORY_LIMIT = 1 << 62
"""Version 1 writes the largest whole number of pages."""


def in_force(pid: int, template: Template | None = None) -> dict[str, Any]:
    """As it is shown; empty when the process has ended or may not be looked at. `template`: what was asked for."""
    try:
        status = dict(line.split(":\t", 1) for line in _read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
        rlimits = dict(_rlimits(_read(f"/proc/{pid}/limits")))
        nice = os.getpriority(os.PRIO_PROCESS, pid)
        cgroups = _read(f"/proc/{pid}/cgroup")
        limits = _limits(list(_cgroups(cgroups)))
        if _read(f"/proc/{pid}/cgroup") != cgroups:
            return {}  # it has ended or been moved meanwhile: what was read may be nobody's
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    if "Umask" not in status:
        return {}  # a zombie: nothing of this is its own any more
    uid = int(status["Uid"].split()[1])
    shown: dict[str, Any] = {
        "user": _name(uid), "uid": uid, "gid": int(status["Gid"].split()[1]),
        "groups": [int(number) for number in status["Groups"].split()], "umask": status["Umask"].strip(), "nice": nice,
        "noNewPrivileges": status.get("NoNewPrivs", "0").strip() == "1", "rlimits": rlimits, "limits": limits,
    }  # fmt: skip
    if template is not None:
        sandbox = template.sandbox
        if sandbox.read_write_paths is not None:  # there would be no process if Landlock had refused
            shown["readWritePaths"] = sandbox.read_write_paths
        if sandbox.private_tmp:  # nor without one of these
            shown["privateTmp"] = True
        asked = template.resources.limits.model_dump(mode="json", by_alias=True, exclude_none=True)
        missing = [name for name in asked if name not in limits]
        weight = template.resources.cpu_weight
        if weight is not None and limits.get("cpuWeight") != weight:
            missing.append("cpuWeight")
        if missing:
            shown["notEnforced"] = missing
    return shown


def _rlimits(text: str) -> Iterator[tuple[str, int | str]]:
    for line in text.splitlines()[1:]:
        name = _RLIMITS.get(line[:25].strip())
        if name is not None:
            soft = line[25:].split()[0]
            yield name, soft if soft == "unlimited" else format_size(int(soft)) if name in _SIZES else int(soft)


def _limits(directories: list[tuple[str, str]]) -> dict[str, str | int]:
    """The least that its cgroup or one above allows."""
    found: dict[str, str | int] = {}
    memory = _least(directories, _memory)
    cpu = _least(directories, _cpu)
    pids = _least(directories, lambda d: _number(f"{d}/pids.max"))
    if memory is not None:
        found["memory"] = format_size(memory)
    if cpu is not None:
        found["cpu"] = f"{cpu}m"
    if pids is not None:
        found["pids"] = pids
    for _, directory in directories:
        weight, shares = _number(f"{directory}/cpu.weight"), _number(f"{directory}/cpu.shares")
        if weight is not None or shares is not None:
            found["cpuWeight"] = weight if weight is not None else round((shares or 0) * 100 / 1024)
    return found


def _least(directories: list[tuple[str, str]], limit: Callable[[str], int | None]) -> int | None:
    values = []
    for point, directory in directories:
        while len(directory) >= len(point):
            value = limit(directory)
            if value is not None:
                values.append(value)
            directory = os.path.dirname(directory)
    return min(values, default=None)


def _memory(directory: str) -> int | None:
    limit = _number(f"{directory}/memory.max")
    if limit is None:
        limit = _number(f"{directory}/memory.limit_in_bytes")
    return limit if limit is not None and limit < _NO_MEMORY_LIMIT else None


def _cpu(directory: str) -> int | None:
    """Thousandths of a core."""
    with suppress(FileNotFoundError):
        quota, period = _read(f"{directory}/cpu.max").split()
        return None if quota == "max" else int(quota) * 1000 // int(period)
    old = _number(f"{directory}/cpu.cfs_quota_us")
    each = _number(f"{directory}/cpu.cfs_period_us")
    return old * 1000 // each if old is not None and each and old > 0 else None


def _number(path: str) -> int | None:
    with suppress(FileNotFoundError, ValueError):  # it has no such file, or says "max"
        return int(_read(path))
    return None


def _cgroups(own: str) -> Iterator[tuple[str, str]]:
    """(mount point, directory) of each of its cgroups that is mounted here."""
    paths = {names: path for _, names, path in (line.split(":", 2) for line in own.splitlines())}
    for line in _read("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        root, point = fields.split()[3:5]
        kind, _, options = rest.split(maxsplit=2)
        for names, path in paths.items():
            mine = kind == ("cgroup" if names else "cgroup2")
            if mine and set(filter(None, names.split(","))) <= set(options.split(",")) and path.startswith(root):
                yield point, f"{point}/{path[len(root.rstrip('/')) :].strip('/')}".rstrip("/")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        if error.errno == errno.ENODEV:  # of a cgroup that was removed after its file had been opened
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        raise
