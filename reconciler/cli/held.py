"""Runs a command while a lock is held.

lock run ──fork── CMD       its own process group, RECONCILER_LOCK_TOKEN, killed by the kernel should we be killed
    |  poll: the child's end, or the loss of the lock
    └─ lost: SIGTERM to the group, SIGKILL after 10 s
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from reconciler.coordination.filelock import FileLock
from reconciler.coordination.session import SESSIONS, HeldLock
from reconciler.resources.lock import TOKEN, token_variable

OWN_FAILURE, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
GRACE_MS = 10_000
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_PR_SET_PDEATHSIG = 1


def run(lock: HeldLock, command: Sequence[str], end_when_lost: bool = True) -> int:
    """With a lock of the daemon, which is given back after it; returns the code to exit with."""
    with lock:
        lost = os.eventfd(0, os.EFD_CLOEXEC)
        lock.on_lost = lambda: os.eventfd_write(lost, 1)
        if lock.lost:
            os.eventfd_write(lost, 1)
        within, token = ",".join((*lock.within, lock.session)), str(lock.token)
        variables = {TOKEN: token, token_variable(lock.name): token, SESSIONS: within}
        code = _under(command, variables, lost if end_when_lost else -1)
        if lock.lost:
            print(f"error: lock/{lock.name} was lost while the command ran: token {token} is stale", file=sys.stderr)
            return OWN_FAILURE
        return code


def run_with_file(lock: FileLock, command: Sequence[str]) -> int:
    """With a lock on a file; returns the code to exit with."""
    with lock:
        code = _under(command, {TOKEN: str(lock.token)}, -1)
        if lock.lost:
            print(f"error: {lock.path} was deleted or replaced while the command ran", file=sys.stderr)
            return OWN_FAILURE
        return code


def _under(command: Sequence[str], variables: Mapping[str, str], lost: int) -> int:
    """Runs the command to its end, or ends it when `lost` becomes readable; its exit code as a shell has it."""
    own_terminal = sys.stdin is not None and sys.stdin.isatty()
    parent, libc = os.getpid(), ctypes.CDLL(None)  # loaded here: the child must not need what another thread may hold
    pid = os.fork()
    if pid == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _become(command, {**os.environ, **variables}, parent, own_terminal)
    with suppress(ProcessLookupError, PermissionError):
        if not own_terminal:
            os.setpgid(pid, pid)  # here too: whoever is first
    group = pid if own_terminal else -pid
    before = {number: signal.getsignal(number) for number in _PASSED_ON}
    for number in _PASSED_ON:
        if own_terminal and number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # the terminal tells the command itself
        else:
            signal.signal(number, lambda number, frame: _signal(group, number))
    try:
        pidfd = os.pidfd_open(pid)
        _wait(pidfd, lost, group)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(pidfd: int, lost: int, group: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if lost >= 0:
        poll.register(lost, select.POLLIN)
    if any(fd == pidfd for fd, _ in poll.poll()):
        return
    print("error: the lock is lost: the command is ended", file=sys.stderr, flush=True)
    _signal(group, signal.SIGTERM)
    _signal(group, signal.SIGCONT)
    poll.unregister(lost)
    if not poll.poll(GRACE_MS):
        _signal(group, signal.SIGKILL)
        poll.poll()


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(group, number)


def _become(command: Sequence[str], environment: Mapping[str, str], parent: int, own_terminal: bool) -> None:
    """In the forked child; never returns."""
    code = OWN_FAILURE
    try:
        if not own_terminal:
            os.setpgid(0, 0)
        if os.getppid() != parent:
            os._exit(code)  # it was killed before the kernel knew
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(command[0], [*command], dict(environment))
    except FileNotFoundError:
        code = NOT_FOUND
        os.write(2, f"error: {command[0]}: not found\n".encode(errors="replace"))
    except OSError as error:
        code = NOT_EXECUTABLE
        os.write(2, f"error: {command[0]}: {error.strerror}\n".encode(errors="replace"))
    finally:
        os._exit(code)
