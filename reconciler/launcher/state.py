"""The state directory as the launcher holds it: owned, locked, and with the API socket bound.

    DIR/                0700    launcher.lock (flock for life), launcher.journal
    DIR/run/api.sock    0600    bound under a temporary name and renamed, held while controllers come and go
    DIR/logs/           0700

Contract: one launcher a directory; a second one waits 5 s and then says who holds it. Nothing foreign is replaced.
"""

from __future__ import annotations

import _socket as socket
import errno
import fcntl
import os
import stat
import time
from typing import NamedTuple

from .notify import NotifySocket
from .system import BACKLOG, MAX_SOCKET_PATH_BYTES

LOCK_WAIT_S = 5.0

EXIT_USAGE, EXIT_REFUSED = 2, 5


class Refused(Exception):
    """The launcher cannot begin here: what is wrong, and the mend."""

    def __init__(self, message: str, help: str, exit_code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.exit_code = exit_code


class State(NamedTuple):
    directory: str
    lock: int
    api: ApiSocket
    notify: NotifySocket


def claim(directory: str) -> State:
    """Makes the directories, takes the lock, binds the API socket. Raises Refused."""
    directory = os.path.abspath(directory)
    os.umask(0o077)
    try:
        _own(directory)
        lock = _lock(directory)
        for name in ("run", "logs"):
            _own(os.path.join(directory, name))
        os.chdir("/")
        api = ApiSocket(os.path.join(directory, "run"))
        api.ensure()
        notify = NotifySocket(directory)
    except OSError as error:
        raise Refused(
            f"{directory} cannot be used: {error}", "choose a directory of your own with --state DIR"
        ) from None
    os.umask(0o022)  # what a child begins with
    return State(directory, lock, api, notify)


class ApiSocket:
    """The listening socket of the API, at its path for as long as the launcher lives."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, "api.sock")
        self._temporary = os.path.join(directory, "api.next")
        self._sock: socket.socket | None = None
        self._identity = (0, 0)

    def fileno(self) -> int:
        assert self._sock is not None
        return self._sock.fileno()

    def ensure(self) -> None:
        """Binds it unless the path still is this socket. Raises Refused or OSError, and then keeps what it has."""
        if self._sock is not None and _identity(self.path) == self._identity:
            return
        if len(os.fsencode(self.path)) > MAX_SOCKET_PATH_BYTES:
            raise Refused(
                f"{self.path} is longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket path may have",
                "choose a shorter --state DIR",
            )
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            found = None
        if found is not None and not stat.S_ISSOCK(found.st_mode):
            raise Refused(f"{self.path} is no socket", "it was not made by this program: move it away")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if os.path.lexists(self._temporary):
                os.unlink(self._temporary)  # of a launcher that was killed at this line
            sock.bind(self._temporary)
            os.chmod(self._temporary, 0o600)
            sock.listen(BACKLOG)
            os.rename(self._temporary, self.path)
        except BaseException:
            sock.close()
            raise
        if self._sock is not None:
            self._sock.close()
        self._sock, self._identity = sock, _identity(self.path)

    def remove(self) -> None:
        """Clients are then told at once that nobody is there."""
        if self._sock is not None and _identity(self.path) == self._identity:
            os.unlink(self.path)


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def _own(path: str) -> None:
    """Makes the directory 0700, or checks that the one there is real and ours. Raises Refused or OSError."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is not a directory, or a link to one", "move it away, or choose another --state DIR")
    if found.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to uid {found.st_uid}, not to {os.geteuid()}", "choose another --state DIR")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def _lock(directory: str) -> int:
    path = os.path.join(directory, "launcher.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            if time.monotonic() >= until:
                raise Refused(
                    f"{directory} is held by {_holder(fd)}",
                    "use the daemon that runs there, end it with `reconciler down`, or choose another --state DIR",
                    EXIT_REFUSED,
                ) from None
            time.sleep(0.05)  # flock has no deadline of its own
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _holder(fd: int) -> str:
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    try:
        with open(f"/proc/{int(text)}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    except (OSError, ValueError):
        return f"pid {text}" if text else "a process that has not yet written its pid"
    return f"pid {text} ({words[:120]})"
