"""Every system call of the launcher that is more than a line: starting, telling processes apart, listening sockets.

    vfork path    _posixsubprocess.fork_exec: the child has exec'd or failed when it returns, so one error pipe serves all
    fork path     os.fork: for another user, passed sockets and limits; (step, errno, text) comes over a pipe of its own

Contract: nothing here knows of journal, lanes or protocol words. A start that fails raises StartFailed with its step.
The child gets an own session, /dev/null as stdin, no other descriptor, default signals, its umask, and nothing else.
"""

from __future__ import annotations

import _posixsubprocess
import _socket as socket  # the whole module costs 0.4 MB for selectors and wrappers
import contextlib
import errno
import fcntl
import os
import resource
import signal
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .failure import StartFailed
from .limits import Sandbox, become
from .protocol import Limits, Template

TOKEN = b"RECONCILER_INSTANCE="
_SPARE = 16
_LENT = 6
_FIRST_PASSED = 3

_fork_exec: Callable[..., int] = _posixsubprocess.fork_exec  # its stub forbids what it takes

Run = Callable[[Sequence[bytes], bytes, bytes, Sequence[bytes], tuple[int, int, int], tuple[int, ...], int], int]


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


def encode(text: str) -> bytes:
    """Bytes as the kernel wants them, whatever the locale says."""
    return text.encode("utf-8", "surrogateescape")


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


class Starter:
    """Starts processes; single-threaded use only."""

    def __init__(self, private: bool = True) -> None:
        """`private`: the vfork path of this Python may be used, where it is known."""
        self.null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.descriptors = Descriptors(self.null)
        self._error_r, self._error_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._resolved: dict[tuple[bytes, bytes], bytes] = {}
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._raise_limit()
        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, most))  # only who asks for core dumps gets them
        self._run = self._choose(private)

    def start(
        self,
        prepared: Prepared,
        argv: Sequence[bytes],
        env: Sequence[bytes],
        log: int,
        sockets: Sequence[tuple[bytes, int]],
        join: Sequence[str] = (),
        channel: int = -1,
    ) -> tuple[int, int]:
        """Starts it and returns (pid, pidfd). `log` may be the null descriptor, `join` are the cgroups to enter.

        `channel`, where there is one, becomes stdin and stdout.

        Raises StartFailed.
        """
        try:
            self.descriptors.refill()
        except OSError as error:
            raise StartFailed("fork", error.errno or errno.EMFILE) from None
        if not argv:
            raise StartFailed("resolve", errno.ENOENT, "no command")
        stdio = (self.null, log, log) if channel < 0 else (channel, channel, log)
        for again in (False, True):
            executable, cached = self._resolve(argv[0], prepared, again)
            try:
                if prepared.needs_fork:
                    pid = self._fork(prepared, executable, argv, env, stdio, sockets, join)
                else:
                    pid = self._run(argv, executable, prepared.cwd, env, stdio, (), prepared.template.umask)
                break
            except StartFailed as failure:
                if not cached or failure.errno != errno.ENOENT or failure.step != "exec":
                    raise
        pidfd = self.open_pidfd(pid)
        if self._raised:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, self._limit)
        return pid, pidfd

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
        words = [encode(word) for word in argv]
        prepared = Prepared(Template("controller", list(argv), dict(env)))
        executable, _ = self._resolve(words[0], prepared, True)
        pid = self._run(words, executable, b"/", prepared.env, (self.null, 1, 2), tuple(sorted(passed)), 0o022)
        return pid, self.open_pidfd(pid)

    # -- the vfork path ----------------------------------------------------------------------------------------------

    def _vfork(
        self, argv: Sequence[bytes], executable: bytes, cwd: bytes, env: Sequence[bytes],
        stdio: tuple[int, int, int], passed: tuple[int, ...], umask: int,
    ) -> int:  # fmt: skip
        stdin, stdout, stderr = stdio
        try:
            pid = _fork_exec(
                argv, [executable], False, passed, cwd, env, stdin, -1, -1, stdout, -1, stderr,
                self._error_r, self._error_w, True, True, -1, None, None, None, umask, None, True,
            )  # fmt: skip
        except ValueError as error:  # a NUL byte
            raise StartFailed("exec", errno.EINVAL, str(error)) from None
        except OSError as error:
            raise StartFailed("fork", error.errno or errno.EAGAIN) from None
        try:
            message = os.read(self._error_r, 512)
        except BlockingIOError:
            return pid
        os.waitpid(pid, 0)
        _, number, where = message.split(b":", 2)
        # "noexec", since 3.13 "noexec:chdir": of what comes before the exec only the change of directory can fail here
        raise StartFailed("chdir" if where.startswith(b"noexec") else "exec", int(number, 16) or errno.EINVAL)

    def _choose(self, private: bool) -> Run:
        """The vfork path where this Python has it in the form known here and the child shares our wait; else Popen."""
        if private and (3, 11) <= sys.version_info[:2] <= (3, 13):
            try:
                self._vfork([b"-"], b"/dev/null/-", b"/", [], (self.null,) * 3, (), -1)
            except StartFailed:
                return self._vfork
        import subprocess  # costs 0.7 MB, so only where needed

        def run(
            argv: Sequence[bytes], executable: bytes, cwd: bytes, env: Sequence[bytes],
            stdio: tuple[int, int, int], passed: tuple[int, ...], umask: int,
        ) -> int:  # fmt: skip
            stdin, stdout, stderr = stdio
            try:
                process = subprocess.Popen(
                    argv, executable=executable, cwd=cwd, env=dict(pair.split(b"=", 1) for pair in env),
                    stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=passed, umask=umask, start_new_session=True,
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

    def _fork(
        self, prepared: Prepared, executable: bytes, argv: Sequence[bytes], env: Sequence[bytes],
        stdio: tuple[int, int, int], sockets: Sequence[tuple[bytes, int]], join: Sequence[str],
    ) -> int:  # fmt: skip
        try:
            error_r, error_w = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
        except OSError as error:
            raise StartFailed("fork", error.errno or errno.EAGAIN) from None
        if pid == 0:
            self._become(prepared, executable, argv, env, stdio, sockets, join, error_w)
        os.close(error_w)
        message = os.read(error_r, 512)  # ends with the exec
        os.close(error_r)
        if not message:
            return pid
        os.waitpid(pid, 0)
        step, number, text = message.decode("utf-8", "replace").split(":", 2)
        raise StartFailed(step, int(number), text)

    def _become(
        self, prepared: Prepared, executable: bytes, argv: Sequence[bytes], env: Sequence[bytes],
        stdio: tuple[int, int, int], sockets: Sequence[tuple[bytes, int]], join: Sequence[str], error_w: int,
    ) -> None:  # fmt: skip
        """In the forked child; never returns."""
        step = "fork"
        try:
            template = prepared.template
            os.setsid()
            high = _FIRST_PASSED + len(sockets) + 1
            error_w = fcntl.fcntl(error_w, fcntl.F_DUPFD_CLOEXEC, high)
            step = "sockets"
            moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high) for _, fd in sockets]
            stdin, stdout, stderr = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, high) for fd in stdio]
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            for target, fd in enumerate(moved, _FIRST_PASSED):
                os.dup2(fd, target)
            names = [name for name, _ in sockets if name]  # the one without a name is to be written to
            if names:
                env = [pair for pair in env if not pair.startswith(b"LISTEN_")]
                env += [b"LISTEN_PID=%d" % os.getpid(), b"LISTEN_FDS=%d" % len(names)]
                env.append(b"LISTEN_FDNAMES=" + b":".join(names))
            words, variables = list(argv), dict(pair.split(b"=", 1) for pair in env)
            step = "sandbox"
            sandbox = Sandbox(prepared.limits)
            sandbox.enter(join, (1,))
            if self._raised:
                resource.setrlimit(resource.RLIMIT_NOFILE, self._limit)
            become(template, prepared.limits)
            os.umask(template.umask)
            step = "chdir"
            os.chdir(prepared.cwd)
            step = "sandbox"
            sandbox.seal()
            step = "exec"
            os.execve(executable, words, variables)
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


# -- processes -------------------------------------------------------------------------------------------------------


class Stat(NamedTuple):
    """The part of /proc/PID/stat that tells processes apart."""

    state: str
    ppid: int
    group: int
    session: int
    start_ticks: int
    exit_status: int


def stat_of(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(
        fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), int(fields[49])
    )  # fmt: skip


def environ_of(pid: int) -> bytes | None:
    """Its environment as it stands in its memory; None when it may not be read or is gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return None


def token_of(environ: bytes | None) -> str | None:
    """The instance that stands in an environment."""
    if not environ:
        return None
    at = 0 if environ.startswith(TOKEN) else environ.find(b"\0" + TOKEN) + 1
    if at == 0 and not environ.startswith(TOKEN):
        return None
    return environ[at + len(TOKEN) :].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def intact(environ: bytes) -> bool:
    """Whether it still is a list of NAME=value, and not overwritten by a program that shows a title there."""
    pairs = environ.rstrip(b"\0").split(b"\0")
    return all(pair.find(b"=") > 0 for pair in pairs)


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alone(pid: int) -> bool:
    """Whether it is one thread, and no child of that thread lives."""
    try:
        if os.listdir(f"/proc/{pid}/task") != [str(pid)]:
            return False
        with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
            return not file.read(1)
    except OSError:  # it has ended, or it may not be looked at, or the kernel does not tell of children
        return False


class OwnChildren:
    """Direct children of this process, zombies too, also those that the kernel gave us because their parent died."""

    def __init__(self) -> None:
        me = os.getpid()
        try:
            self._fd = os.open(f"/proc/{me}/task/{me}/children", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
            self._fd = -1

    def read(self) -> list[int]:
        """Their pids now; takes no descriptor."""
        if self._fd < 0:
            me = os.getpid()
            return [pid for pid in all_pids() if (found := stat_of(pid)) is not None and found.ppid == me]
        os.lseek(self._fd, 0, os.SEEK_SET)
        text = b""
        while part := os.read(self._fd, 1 << 16):
            text += part
        return list(map(int, text.split()))


OOM_SCORE_ADJ = -900


def spare_from_oom() -> bytes | None:
    """Makes the kernel take any other process before this one when memory runs out, where that is allowed.

    Returns what stood there before, which is what children are to have; None: nothing was changed.
    """
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            before = file.read().strip()
            file.write(b"%d" % OOM_SCORE_ADJ)
    except PermissionError:
        return None  # it takes CAP_SYS_RESOURCE
    return before


def set_oom(pid: int, score_adj: bytes) -> None:
    """Gives a new child its own place in that order: it has inherited ours."""
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it has ended already
    try:
        os.write(fd, score_adj)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def identity_of(pid: int, pidfd: int) -> int:
    """What no other process of this boot has together with this pid: the pidfd's inode, or the start time in ticks."""
    if PIDFS:
        return os.fstat(pidfd).st_ino
    found = stat_of(pid)
    return -1 if found is None else found.start_ticks


def _has_pidfs() -> bool:
    """Whether each process has a pidfd inode of its own (kernel 6.9); before, all anonymous inodes are one."""
    pidfd, other = os.pidfd_open(os.getpid()), os.eventfd(0)
    try:
        one, two = os.fstat(pidfd), os.fstat(other)
        return (one.st_dev, one.st_ino) != (two.st_dev, two.st_ino)
    finally:
        os.close(pidfd)
        os.close(other)


PIDFS = _has_pidfs()

_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)
_INFO = struct.Struct("<QQ11Ii")
_INFO_EXIT = 8


def unseen_exit(pidfd: int) -> int | None:
    """The wait status of a process that is not our child, once its parent has reaped it; kernel 6.15."""
    buffer = bytearray(_INFO.size)
    struct.pack_into("<Q", buffer, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return None
    fields = _INFO.unpack(buffer)
    return int(fields[-1]) if fields[0] & _INFO_EXIT else None


def signal_pidfd(pidfd: int, signo: int) -> bool:
    """False when it has ended."""
    try:
        signal.pidfd_send_signal(pidfd, signo)
    except ProcessLookupError:
        return False
    return True


def is_there(pidfd: int) -> bool:
    """Whether it is alive or a zombie, also where it has become somebody who may not be signalled."""
    try:
        return signal_pidfd(pidfd, 0)
    except PermissionError:
        return True


def signal_group(pid: int, signo: int) -> bool:
    """False when nobody is in the group. Only for a pid whose process has not been reaped."""
    if pid <= 1:
        raise ValueError(f"process group {pid} is never ours")
    try:
        os.killpg(pid, signo)
    except ProcessLookupError:
        return False
    return True


# -- sockets ---------------------------------------------------------------------------------------------------------

BACKLOG = 512
MAX_SOCKET_PATH_BYTES = 107


def listen(address: str) -> socket.socket:
    """Listens on `HOST:PORT`, `[IPV6]:PORT` or an absolute path. Raises OSError; ValueError for another form."""
    if address.startswith("unix:"):
        address = address[5:]
    if address.startswith("/"):
        return _listen_path(address)
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not HOST:PORT, [IPV6]:PORT or an absolute path")
    host = {"localhost": "127.0.0.1", "*": "0.0.0.0", "": "0.0.0.0"}.get(host, host)
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    host = host.strip("[]")
    socket.inet_pton(family, host)  # never a name server in the launcher
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, int(port)))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_path(path: str) -> socket.socket:
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a socket path has at most {MAX_SOCKET_PATH_BYTES} bytes", path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _nobody_listens(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _nobody_listens(path: str) -> bool:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False  # connecting to a plain file is refused too
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED
    finally:
        probe.close()
