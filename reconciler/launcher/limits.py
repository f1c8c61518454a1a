"""What a forked child does to itself before its exec: whatever its template limits, step by step.

    cgroups -> private /tmp -> nice -> Landlock's rules -> groups -> rlimits -> user -> (chdir) -> no new privileges, Landlock

As root as long as a right may be needed, with everything opened before the descriptors can run out; what takes the process
its rights comes last. Only for the child of a fork: ctypes is loaded here, and never in the launcher itself.

Contract: each function raises StartFailed with its step, or has done what it says.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import cgroups
from .failure import StartFailed
from .protocol import Limits, Template

RLIMITS = {
    name: getattr(resource, f"RLIMIT_{name.upper()}")
    for name in ("as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nofile", "nproc", "sigpending", "stack")
}

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNS, _MS_REC, _MS_SLAVE, _MS_NOSUID, _MS_NODEV = 0x20000, 0x4000, 1 << 19, 2, 4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _MAKE_AND_REMOVE, _REFER, _TRUNCATE = 1 << 1, 0x1FF << 4, 1 << 13, 1 << 14
_TEMPORARY = ("/tmp", "/var/tmp")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts")
"""Writable in any sandbox: a program that cannot write to /dev/null is not confined but broken."""


class Sandbox:
    """One child's way through the steps."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rules = -1
        self._call = (
            _libc() if limits.no_new_privileges or limits.private_tmp or limits.read_write_paths is not None else None
        )

    def enter(self, join: Sequence[str], outputs: Sequence[int]) -> None:
        """All that needs rights, and all that needs descriptors; `outputs` stay writable by their names too."""
        cgroups.enter(join)
        if self._limits.private_tmp:
            self._private_tmp()
        if self._limits.nice is not None:
            _renice(self._limits.nice)
        if self._limits.read_write_paths is not None:
            self._landlock(self._limits.read_write_paths, outputs)

    def seal(self) -> None:
        """From here on nothing can be gained."""
        if self._limits.no_new_privileges or self._rules >= 0:
            self._syscall("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if self._rules >= 0:
            self._syscall("syscall", _RESTRICT_SELF, self._rules, 0)

    def _private_tmp(self) -> None:
        self._syscall("unshare", _CLONE_NEWNS, what="a private /tmp")
        self._syscall("mount", None, b"/", None, _MS_REC | _MS_SLAVE, None)
        for directory in _TEMPORARY:
            if os.path.isdir(directory):
                self._syscall(
                    "mount", b"tmpfs", directory.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=1777", what=directory
                )  # fmt: skip

    def _landlock(self, paths: Sequence[str], outputs: Sequence[int]) -> None:
        import ctypes

        abi = self._syscall("syscall", _CREATE_RULESET, None, ctypes.c_size_t(0), 1, what="Landlock")
        on_files = _WRITE_FILE | (_TRUNCATE if abi >= 3 else 0)
        handled = on_files | _MAKE_AND_REMOVE | (_REFER if abi >= 2 else 0)
        attributes = ctypes.c_uint64(handled)
        self._rules = self._syscall(
            "syscall", _CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(8), 0, what="Landlock"
        )

        def allow(fd: int) -> None:
            rights = handled if _is_directory(fd) else on_files
            self._syscall("syscall", _ADD_RULE, self._rules, 1, struct.pack("=Qi", rights, fd), 0)

        private = _TEMPORARY if self._limits.private_tmp else ()
        for path in (*paths, *filter(os.path.exists, (*private, *_DEVICES))):
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                raise StartFailed("sandbox", error.errno or errno.EIO, f"{path}: {error.strerror}") from None
            allow(fd)
            os.close(fd)
        for fd in outputs:
            if os.path.isfile(f"/proc/self/fd/{fd}"):  # /dev/stderr opens it anew; a pipe needs no rule
                allow(fd)

    def _syscall(self, name: str, *arguments: Any, what: str = "") -> int:
        assert self._call is not None
        number, failed = self._call(name, *arguments)
        if failed:
            raise StartFailed("sandbox", failed, f"{what or name}: {os.strerror(failed)}")
        return number


def check(limits: Limits) -> None:
    """What is kept for later must be what it says. Raises TypeError."""
    numbers = (limits.nice, limits.memory_bytes, limits.cpu_milli, limits.cpu_weight, limits.pids)
    if not all(isinstance(number, int | None) for number in (*numbers, *limits.rlimits.values())):
        raise TypeError(f"{limits!r:.200}: a limit is a whole number")
    if not limits.rlimits.keys() <= RLIMITS.keys():
        raise TypeError(f"no rlimits: {', '.join(limits.rlimits.keys() - RLIMITS.keys())}")
    if not all(isinstance(path, str) for path in limits.read_write_paths or ()):
        raise TypeError(f"{limits.read_write_paths!r:.200}: a path is a string")


def become(template: Template, limits: Limits) -> None:
    """Groups, rlimits and user, in this order: each needs a right that the next takes away."""
    with _step("identity"):
        if template.groups is not None:
            os.setgroups(template.groups)
        elif template.uid is not None and os.geteuid() == 0:
            os.setgroups([] if template.gid is None else [template.gid])
        if template.gid is not None:
            os.setresgid(template.gid, template.gid, template.gid)
    for name, value in limits.rlimits.items():
        with _step("rlimits", name):
            resource.setrlimit(RLIMITS[name], (value, value))
    if template.uid is not None:
        with _step("identity"):
            os.setresuid(template.uid, template.uid, template.uid)


def _renice(nice: int) -> None:
    with _step("nice"):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        try:  # where each session is scheduled as one, it is the session's nice that others feel
            with open("/proc/self/autogroup", "wb", buffering=0) as file:
                file.write(b"%d" % nice)
        except OSError as error:
            # no such thing here; or asked for too often by somebody who is not root: then what is in force shows it
            if error.errno not in (errno.ENOENT, errno.EAGAIN):
                raise


@contextmanager
def _step(step: str, what: str = "") -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        number = (error.errno if isinstance(error, OSError) else None) or errno.EPERM
        raise StartFailed(step, number, f"{what}: {os.strerror(number)}" if what else "") from None


def _is_directory(fd: int) -> bool:
    return os.path.isdir(f"/proc/self/fd/{fd}")


def _libc() -> Callable[..., tuple[int, int]]:
    """Calls a function of the C library by name; returns what it returned and its errno when that says failure."""
    try:
        import ctypes
    except ImportError as error:
        raise StartFailed("sandbox", errno.ENOSYS, f"this Python has no ctypes: {error}") from None
    library = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: Any) -> tuple[int, int]:
        function = getattr(library, name)
        function.restype = ctypes.c_long if name == "syscall" else ctypes.c_int
        # a plain int would be passed as 32 bits where the call is variadic and reads 64
        wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
        result = int(function(*wide))
        return result, (ctypes.get_errno() if result < 0 else 0)

    return call
