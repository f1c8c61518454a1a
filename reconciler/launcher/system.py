"""Every system call of the launcher that is more than a line: telling processes apart, signals, listening sockets.

Contract: nothing here knows of journal, lanes or protocol words, and nothing here starts a process.
"""

from __future__ import annotations

import _socket as socket  # the whole module costs 0.4 MB for selectors and wrappers
import errno
import fcntl
import os
import signal
import stat
import struct
from typing import NamedTuple

TOKEN = b"RECONCILER_INSTANCE="
KTHREADD = 2


def encode(text: str) -> bytes:
    """Bytes as the kernel wants them, whatever the locale says."""
    return text.encode("utf-8", "surrogateescape")


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


def beginning(pid: int) -> bool:
    """Whether it is just becoming another program, or ending: it has no command line either. The kernel's own are neither."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read(1):
                return False
    except OSError:
        return False
    stat = stat_of(pid)
    return stat is not None and stat.ppid not in (0, KTHREADD)


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
