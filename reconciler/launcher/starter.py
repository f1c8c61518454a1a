"""Starts processes: what a start needs made ready first, then one fork after another.

    vfork path    _posixsubprocess.fork_exec: the child has exec'd or failed when it returns, so one error pipe serves all
    fork path     os.fork: for another user, passed sockets and limits; (step, errno, text) comes over a pipe of its own

Contract: nothing here knows of journal, lanes or protocol words. A start that fails gives a StartFailed with its step.
The child gets an own session, /dev/null as stdin, no other descriptor, default signals, its umask, and nothing else.
"""

from __future__ import annotations

import _posixsubprocess
import contextlib
import errno
import fcntl
import os
import resource
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .failure import StartFailed
from .limits import Sandbox, become
from .protocol import Limits, Template
from .system import encode

_SPARE = 16
_LENT = 6
AT_ONCE = _SPARE - _LENT
"""So many starts at once find room for their pidfds among the spare descriptors, and leave what is lent."""

_FIRST_PASSED = 3

_fork_exec: Callable[..., int] = _posixsubprocess.fork_exec  # its stub forbids what it takes


class Prepared:
    """A template with its strings encoded once."""

    __slots__ = ("argv", "cwd", "env", "limits", "needs_fork", "path", "template")

    def __init__(self, template: Template) -> None:
        self.template = template
        self.argv = [encode(word) for word in template.argv]
        self.env = [encode(f"{name}={value}") for name, value in template.env.items()]
        self.cwd = encode(template.cwd)
        self.path = encode(template.env.get("PATH", os.defpath))
        self.limits = Limits(**template.limits)
        self.needs_fork = bool(template.sockets or template.notify or template.limits) or (
            (template.uid, template.gid, template.groups) != (None, None, None)
        )

    def environment(self, added: Mapping[str, str]) -> list[bytes]:
        """The template's, and what is added for one child in its place."""
        pairs = [f"{name}={value}".encode("utf-8", "surrogateescape") for name, value in added.items()]
        if added.keys().isdisjoint(self.template.env):
            return self.env + pairs
        kept = [pair for name, pair in zip(self.template.env, self.env, strict=True) if name not in added]
        return kept + pairs


class Descriptors:
    """Keeps some descriptors back, so that a full table stops new starts and nothing else."""

    def __init__(self, null: int) -> None:
        self._null = null
        self._spare: list[int] = []
        self.refill()

    def refill(self) -> None:
        """Raises OSError when the table is full."""
        while len(self._spare) < _SPARE:
            self._spare.append(os.dup(self._null))

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Room for a few descriptors, for what has to work also when the table is full: sweeps, a next controller."""
        for _ in range(min(_LENT, len(self._spare))):
            os.close(self._spare.pop())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it tells the next start
                self.refill()

    def release(self) -> None:
        """Gives up one for something that must not fail."""
        if self._spare:
            os.close(self._spare.pop())


class Start:
    """One start and all that it takes; made ready before the first fork of those that begin together."""

    __slots__ = ("argv", "env", "executable", "join", "passed", "prepared", "remembered", "sockets", "stdio")

    def __init__(
        self, prepared: Prepared, argv: Sequence[bytes], env: Sequence[bytes], stdio: tuple[int, int, int]
    ) -> None:
        self.prepared = prepared
        self.argv = argv
        self.env = env
        self.stdio = stdio
        self.sockets: Sequence[tuple[bytes, int]] = ()
        """On the fork path: name and descriptor; the one without a name is to be written to."""
        self.join: Sequence[str] = ()
        """On the fork path: the cgroups to enter."""
        self.passed: tuple[int, ...] = ()
        """On the vfork path: descriptors that keep their numbers."""
        self.executable = b""
        self.remembered = False
        """Found at an earlier start: it may be elsewhere by now."""


class Begun(NamedTuple):
    """What a start gives."""

    pid: int
    pidfd: int
    at_s: float
    """By the wall clock."""


class Starter:
    """Starts processes; single-threaded use only."""

    def __init__(self, private: bool = True) -> None:
        """`private`: the vfork path of this Python may be used, where it is known."""
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.descriptors = Descriptors(self.null)
        self._error_r, self._error_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._failure = select.poll()  # a read that finds nothing raises, which costs three times as much as this
        self._failure.register(self._error_r, select.POLLIN)
        self._at_root = os.getcwdb() == b"/"
        self._resolved: dict[tuple[bytes, bytes], bytes] = {}
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._raise_limit()
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # only who asks for core dumps gets them
        self._run = self._choose(private)

    def resolve(self, start: Start) -> None:
        """Finds its program. Raises StartFailed."""
        if not start.argv:
            raise StartFailed("resolve", errno.ENOENT, "no command")
        start.executable, start.remembered = self._resolve(start.argv[0], start.prepared, False)

    def start(self, starts: Sequence[Start]) -> list[Begun | StartFailed]:
        """Starts those, at most AT_ONCE, each resolved before; what became of each.

        A fork leaves the processor's caches to the child: between two there is as little as can be.
        """
        try:
            self.descriptors.refill()
        except OSError as error:
            return [StartFailed("fork", error.errno or errno.EMFILE)] * len(starts)
        begun: list[tuple[int, float] | StartFailed] = []
        for start in starts:
            at_s = time.time()
            try:
                begun.append((self._begin(start), at_s))
            except StartFailed as failure:
                begun.append(failure)
        return [
            one if isinstance(one, StartFailed) else Begun(one[0], self.open_pidfd(one[0]), one[1]) for one in begun
        ]

    def _begin(self, start: Start) -> int:
        try:
            pid = self._fork(start) if start.prepared.needs_fork else self._run(start)
        except StartFailed as failure:
            if not start.remembered or (failure.step, failure.errno) != ("exec", errno.ENOENT):
                raise
            start.executable, start.remembered = self._resolve(start.argv[0], start.prepared, True)
            return self._begin(start)
        if self._raised:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, self._limit)
        return pid

    def open_pidfd(self, pid: int) -> int:
        """Raises ProcessLookupError when there is no such process."""
        try:
            return os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.descriptors.release()
            return os.pidfd_open(pid)

    def start_controller(self, argv: Sequence[str], env: Mapping[str, str], passed: Sequence[int]) -> tuple[int, int]:
        """The controller: our own environment, stdout and stderr, and the descriptors it is told of."""
        prepared = Prepared(Template("controller", list(argv), dict(env)))
        start = Start(prepared, prepared.argv, prepared.env, (self.null, 1, 2))
        start.executable, _ = self._resolve(prepared.argv[0], prepared, True)
        start.passed = tuple(sorted(passed))
        pid = self._run(start)
        return pid, self.open_pidfd(pid)

    # -- the vfork path ----------------------------------------------------------------------------------------------

    def _vfork(self, start: Start) -> int:
        stdin, stdout, stderr = start.stdio
        prepared = start.prepared
        cwd = None if self._at_root and prepared.cwd == b"/" else prepared.cwd
        try:
            pid = _fork_exec(
                start.argv, [start.executable], False, start.passed, cwd, start.env, stdin, -1, -1, stdout, -1, stderr,
                self._error_r, self._error_w, True, True, -1, None, None, None, prepared.template.umask, None, True,
            )  # fmt: skip
        except ValueError as error:  # a NUL byte
            raise StartFailed("exec", errno.EINVAL, str(error)) from None
        except OSError as error:
            raise StartFailed("fork", error.errno or errno.EAGAIN) from None
        if not self._failure.poll(0):
            return pid
        message = os.read(self._error_r, 512)
        os.waitpid(pid, 0)
        _, number, where = message.split(b":", 2)
        # "noexec", since 3.13 "noexec:chdir": of what comes before the exec only the change of directory can fail here
        raise StartFailed("chdir" if where.startswith(b"noexec") else "exec", int(number, 16) or errno.EINVAL)

    def _choose(self, private: bool) -> Callable[[Start], int]:
        """The vfork path where this Python has it in the form known here and the child shares our wait; else Popen."""
        if private and (3, 11) <= sys.version_info[:2] <= (3, 13):
            nothing = Start(Prepared(Template("", [], {})), [b"-"], [], (self.null,) * 3)
            nothing.executable = b"/dev/null/-"
            try:
                self._vfork(nothing)
            except StartFailed:
                return self._vfork
        import subprocess  # costs 0.7 MB, so only where needed

        def run(start: Start) -> int:
            stdin, stdout, stderr = start.stdio
            cwd, umask = start.prepared.cwd, start.prepared.template.umask
            try:
                process = subprocess.Popen(
                    start.argv, executable=start.executable, cwd=cwd, env=dict(pair.split(b"=", 1) for pair in start.env),
                    stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=start.passed, umask=umask, start_new_session=True,
                )  # fmt: skip
            except ValueError as error:
                raise StartFailed("exec", errno.EINVAL, str(error)) from None
            except OSError as error:
                step = "fork" if error.filename is None else "chdir" if error.filename == cwd else "exec"
                raise StartFailed(step, error.errno or errno.EINVAL) from None
            process.returncode = 0  # it is waited for elsewhere: keep Popen's hands off
            return process.pid

        return run

    # -- the fork path -----------------------------------------------------------------------------------------------

    def _fork(self, start: Start) -> int:
        try:
            error_r, error_w = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError as error:
            raise StartFailed("fork", error.errno or errno.EAGAIN) from None
        if pid == 0:
            self._become(start, error_w)
        os.close(error_w)
        message = os.read(error_r, 512)  # ends with the exec
        os.close(error_r)
        if not message:
            return pid
        os.waitpid(pid, 0)
        step, number, text = message.decode("utf-8", "replace").split(":", 2)
        raise StartFailed(step, int(number), text)

    def _become(self, start: Start, error_w: int) -> None:
        """In the forked child; never returns."""
        step = "fork"
        try:
            prepared, sockets, env = start.prepared, start.sockets, list(start.env)
            template = prepared.template
            os.setsid()
            high = _FIRST_PASSED + len(sockets) + 1
            error_w = fcntl.fcntl(error_w, fcntl.F_DUPFD_CLOEXEC, high)
            step = "sockets"
            moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high) for _, fd in sockets]
            stdin, stdout, stderr = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high) for fd in start.stdio]
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            for target, fd in enumerate(moved, _FIRST_PASSED):
                os.dup2(fd, target)
            names = [name for name, _ in sockets if name]
            if names:
                env = [pair for pair in env if not pair.startswith(b"LISTEN_")]
                env += [b"LISTEN_PID=%d" % os.getpid(), b"LISTEN_FDS=%d" % len(names)]
                env.append(b"LISTEN_FDNAMES=" + b":".join(names))
            words, variables = list(start.argv), dict(pair.split(b"=", 1) for pair in env)
            step = "sandbox"
            sandbox = Sandbox(prepared.limits)
            sandbox.enter(start.join, (1,))
            if self._raised:
                resource.setrlimit(resource.RLIMIT_NOFILE, self._limit)
            become(template, prepared.limits)
            os.umask(template.umask)
            step = "chdir"
            os.chdir(prepared.cwd)
            step = "sandbox"
            sandbox.seal()
            step = "exec"
            os.execve(start.executable, words, variables)
        except StartFailed as failure:
            os.write(
                error_w, f"{failure.step}:{failure.errno}:{failure.text}".encode("utf-8", "backslashreplace")[:500]
            )
        except OSError as error:
            os.write(error_w, f"{step}:{error.errno}:".encode())
        except ValueError:
            os.write(error_w, f"{step}:{errno.EINVAL}:".encode())
        except MemoryError:
            os.write(error_w, f"{step}:{errno.ENOMEM}:".encode())
        finally:
            os._exit(255)

    # -- finding the program -----------------------------------------------------------------------------------------

    def _resolve(self, name: bytes, prepared: Prepared, again: bool) -> tuple[bytes, bool]:
        """The file to execute and whether it was remembered; a name without a slash is looked for in its own PATH."""
        if b"/" in name:
            return name, False
        key = name, prepared.path
        found = None if again else self._resolved.get(key)
        if found is not None:
            return found, True
        number = errno.ENOENT
        for directory in prepared.path.split(b":"):
            path = os.path.join(prepared.cwd, directory or b".", name)
            try:
                mode = os.stat(path).st_mode
            except (OSError, ValueError):
                continue
            if stat.S_ISREG(mode):
                if os.access(path, os.X_OK):
                    self._resolved[key] = path
                    return path, False
                number = errno.EACCES
        raise StartFailed("resolve", number)

    def _raise_limit(self) -> None:
        """One descriptor a child is needed; children get the limit that we were started with."""
        soft, hard = self._limit
        self._raised = soft != hard
        if self._raised:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
