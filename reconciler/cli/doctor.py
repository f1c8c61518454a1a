"""doctor: does this machine have what the reconciler builds on, and does the daemon answer."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import click

from reconciler.cli.connection import connect, state_dir, state_option
from reconciler.client import lock_holder
from reconciler.errors import ReconcilerError

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs")
_FEW_DESCRIPTORS = 4096
_FREE_BYTES = 64 << 20


class Finding(NamedTuple):
    """One check: `ok` None is worth knowing, and nothing is broken."""

    what: str
    ok: bool | None
    says: str


@click.command("doctor")
@state_option
def doctor_command(state: str | None) -> int:
    """Checks this machine and the daemon.

    Ends with 1 when something needs mending.
    """
    findings = list(checks(state_dir(state), state))
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = {True: "ok", False: "BAD", None: "note"}[finding.ok]
        click.echo(f"{mark:<5} {finding.what:<{width}}  {finding.says}")
    return 1 if any(finding.ok is False for finding in findings) else 0


def checks(directory: str, state: str | None) -> Iterator[Finding]:
    """Every finding, in the order in which a person would mend them."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), f"{version} ({sys.executable}); 3.11 or newer is needed")
    yield Finding("system", sys.platform == "linux", f"{os.uname().sysname} {os.uname().release}")
    yield from _pidfd()
    yield _subreaper()
    yield _cgroup()
    yield _landlock()
    yield from _limits()
    yield from _directory(directory)
    yield from _daemon(directory, state)


def _pidfd() -> Iterator[Finding]:
    try:
        fd = os.pidfd_open(os.getpid())
    except OSError as error:
        yield Finding("pidfd", False, f"{error.strerror}: Linux 5.4 or newer is needed")
        return
    try:
        import fcntl

        request = (3 << 30) | (64 << 16) | (0xFF << 8) | 11  # PIDFD_GET_INFO with its first struct of 64 bytes
        told = bytearray((2).to_bytes(8, "little") + bytes(56))
        fcntl.ioctl(fd, request, told)
        yield Finding("pidfd", True, "exit codes of adopted processes can be read (PIDFD_GET_INFO)")
    except OSError:
        yield Finding("pidfd", None, "without PIDFD_GET_INFO (Linux 6.13): an adopted process ends as ExitUnknown")
    finally:
        os.close(fd)


def _subreaper() -> Finding:
    libc = ctypes.CDLL(None, use_errno=True)
    flag = ctypes.c_int()
    works = libc.prctl(37, ctypes.byref(flag), 0, 0, 0) == 0  # PR_GET_CHILD_SUBREAPER
    return Finding("subreaper", works, "orphans of workers come to the launcher" if works else "prctl is refused")


def _cgroup() -> Finding:
    own = next((line[3:] for line in _lines("/proc/self/cgroup") if line.startswith("0::")), None)
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        path = mount + (own or "/")
        if own is not None and os.path.exists(f"{mount}/cgroup.controllers"):
            if os.access(path, os.W_OK):
                return Finding("cgroup v2", True, f"{path} is writable: trees are ended as a whole")
            return Finding("cgroup v2", None, f"{path} is not writable: trees are found by group, session and token")
    return Finding("cgroup v2", None, "not mounted: trees are found by group, session and token")


def _landlock() -> Finding:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(444, None, ctypes.c_size_t(0), 1)  # landlock_create_ruleset: which version there is
    if version > 0:
        return Finding("landlock", True, f"version {version}: sandbox.readWritePaths is enforced")
    why = os.strerror(ctypes.get_errno())
    return Finding("landlock", None, f"{why}: what declares sandbox.readWritePaths cannot be started")


def _limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files == resource.RLIM_INFINITY or files >= _FEW_DESCRIPTORS
    says = f"{files} open files" + ("" if enough else ": two for each worker; raise it with ulimit -n")
    yield Finding("descriptors", True if enough else None, says)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    shown = "unlimited" if processes == resource.RLIM_INFINITY else str(processes)
    yield Finding("processes", True, f"{shown} for this user")


def _directory(directory: str) -> Iterator[Finding]:
    if len(os.fsencode(os.path.join(directory, "run", "api.sock"))) > 107:
        yield Finding(
            "state", False, f"{directory}: too long a path for a socket (107 bytes); choose a shorter --state"
        )
        return
    if not os.path.isdir(directory):
        parent = directory
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        writable = os.access(parent, os.W_OK)
        yield Finding("state", writable, f"{directory} will be made" if writable else f"{parent} is not writable")
        return
    facts = os.stat(directory)
    if facts.st_uid not in (os.geteuid(), 0) or not os.access(directory, os.W_OK):
        yield Finding("state", False, f"{directory} belongs to uid {facts.st_uid}: choose another --state, or use sudo")
        return
    private = facts.st_mode & 0o077 == 0
    yield Finding("state", private, directory if private else f"{directory} is open to others: chmod 0700 {directory}")
    kind = _file_system(directory)
    local = kind not in _NETWORK
    yield Finding("file system", local, kind if local else f"{kind}: locks and the database need a local one")
    free = shutil.disk_usage(directory).free
    says = f"{free >> 20} MiB free"
    yield Finding("disk", free >= _FREE_BYTES, says if free >= _FREE_BYTES else f"{says}: nothing can be accepted soon")


def _daemon(directory: str, state: str | None) -> Iterator[Finding]:
    holder = lock_holder(directory)
    if holder is None:
        yield Finding("daemon", None, f"not running; reconciler up --state {directory} starts it")
        return
    try:
        with connect(state) as client:
            report = client.status()
    except ReconcilerError as error:
        yield Finding("daemon", False, f"pid {holder} holds the state directory and does not answer: {error.message}")
        return
    yield Finding("daemon", True, f"launcher pid {holder}, controller pid {report['controller']['pid']}")
    for limit, where in report["launcher"].get("limits", {}).items():
        yield Finding(f"{limit} limits", None if where.startswith("no: ") else True, where)
    for problem in report["problems"]:
        yield Finding("daemon", False, str(problem))


def _file_system(directory: str) -> str:
    """The type of the mount with the longest path above the directory."""
    best, kind = "", "unknown"
    real = os.path.realpath(directory)
    for line in _lines("/proc/self/mounts"):
        _, point, type_, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, type_
    return kind


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
