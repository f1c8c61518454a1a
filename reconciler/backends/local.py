"""This machine: the socket to the launcher, and what has to be asked of the system before a start."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from reconciler.backends import demotion, logs, secrets
from reconciler.backends.base import Account
from reconciler.backends.temporary import Temporary
from reconciler.launcher import protocol
from reconciler.launcher.protocol import Decoder, FrameError, Message
from reconciler.resources.environment import ValueFrom

_READ_BYTES = 1 << 18

LOOK_EVERY_S = 0.01
"""So often is looked while it rests: no word waits longer."""


class SocketLink:
    """The socketpair to the launcher, on an asyncio loop; never waits.

    `on_messages` gets the messages of a read; `on_end` is called once when the launcher is gone or talks nonsense: nothing
    can be started or signalled from then on.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_messages: Callable[[list[list[Any]]], None],
        on_end: Callable[[str], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_messages = on_messages
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._decoder = Decoder()
        self._rest = b""
        self._open = True
        self._looking: asyncio.TimerHandle | None = None
        """The next look, while it rests."""
        self._rests_until = 0.0
        self._loop.add_reader(sock, self._readable)

    def rest(self, for_s: float) -> None:
        """From now on, for so long, looks now and then whether something has come, and is not woken by each word."""
        self._rests_until = self._loop.time() + for_s
        if self._looking is None:
            if for_s >= LOOK_EVERY_S and self._open:
                self._loop.remove_reader(self._sock)
                self._looking = self._loop.call_later(LOOK_EVERY_S, self._look)
        elif for_s < LOOK_EVERY_S:
            self._wake_up()

    def listen(self) -> None:
        """Takes what has come while it rests."""
        if self._looking is not None:
            self._readable()

    def _look(self) -> None:
        self._readable()
        if not self._open:
            return
        if self._rests_until - self._loop.time() >= LOOK_EVERY_S:
            self._looking = self._loop.call_later(LOOK_EVERY_S, self._look)
        else:
            self._wake_up()

    def _wake_up(self) -> None:
        if self._looking is not None and self._open:
            self._looking.cancel()
            self._looking = None
            self._loop.add_reader(self._sock, self._readable)

    def send(self, messages: Sequence[Message]) -> None:
        """Sends one frame, in order, without waiting; what the socket does not take now goes later."""
        if not self._open:
            return
        data = protocol.frame(messages)
        if self._rest:
            self._rest += data
            return
        self._rest = data
        self._writable()

    def close(self) -> None:
        """Lets the socket go; `on_end` is not called."""
        if self._open:
            self._open = False
            if self._looking is not None:
                self._looking.cancel()
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"the launcher's socket failed: {error}")
            return
        if not data:
            self._end("the launcher is gone")
            return
        try:
            messages = list(self._decoder.feed(data))
        except FrameError as error:
            self._end(f"the launcher sent {error}")
            return
        if messages:
            self._on_messages(messages)

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._rest)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(f"the launcher's socket failed: {error}")
            return
        self._rest = self._rest[sent:]
        if self._rest:
            self._loop.add_writer(self._sock, self._writable)
        else:
            self._loop.remove_writer(self._sock)

    def _end(self, why: str) -> None:
        if self._open:
            self.close()
            self._on_end(why)


_FINISH_S = 2.0


class LocalHost:
    """Accounts, ports and files of this machine."""

    def __init__(self, log_directory: str, environ: Mapping[str, str] = os.environ, temporary: str = "") -> None:
        """`temporary`: the directory for those of workers; root needs none."""
        self.path = environ.get("PATH", os.defpath)
        self.notify_path = environ.get("RECONCILER_NOTIFY_PATH", "")
        self.temporary = temporary if os.geteuid() else ""
        self._environ = environ
        self._temporary = Temporary(temporary)
        self._logs = log_directory
        self._accounts: dict[str | None, Account] = {}

    def account(self, user: str | None) -> Account:
        """The account. Raises LookupError if there is none of that name."""
        found = self._accounts.get(user)
        if found is None:
            found = self._accounts[user] = _account(user)
        return found

    def group(self, name: str) -> int:
        """The number of a group. Raises LookupError if there is none of that name."""
        return grp.getgrnam(name).gr_gid

    def secret(self, reference: ValueFrom) -> str:
        """What a manifest only names. Raises SecretError."""
        return secrets.value(reference, self._environ)

    def secret_variables(self, path: str) -> dict[str, str]:
        """A file of NAME=value lines. Raises SecretError."""
        return secrets.file_of_variables(path)

    def free_port(self) -> int:
        """A TCP port nobody listens on now."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def make_temporary(self, instance: str) -> None:
        """The directory of that name below `temporary`, if need be. Raises OSError."""
        self._temporary.make(instance)

    def remove_temporary(self, instance: str) -> None:
        """Removes it with all that it holds, if there is one."""
        self._temporary.remove(instance)

    def keep_temporary(self, instances: Collection[str]) -> None:
        """Removes the directories of all other workers: what an earlier daemon has left."""
        self._temporary.keep_only(instances)

    def finish(self) -> None:
        """Before the end: what is being removed is gone."""
        self._temporary.finish(_FINISH_S)

    def remove_files(self, files: Sequence[str]) -> list[str]:
        """Removes files and sockets, never directories, links not followed; returns what could not be removed and why."""
        problems = []
        for path in files:
            try:
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    problems.append(f"{path} is a directory and stays")
                else:
                    os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{path} cannot be removed: {error.strerror}")
        return problems

    def cpu_ms(self, pid: int) -> int | None:
        """The CPU time of a running task; None: it is not there any more."""
        return demotion.cpu_ms(pid)

    def renice(self, pid: int, nice: int) -> None:
        """A running task yields to others that much. Raises OSError."""
        demotion.renice(pid, nice)

    def remove_output(self, names: Sequence[str]) -> None:
        """Removes these files below the log directory, where they are, and the directories that are empty then."""
        for path in (os.path.join(self._logs, name) for name in names):
            if os.path.exists(path):  # most tasks wrote nothing and have none
                for part in logs.parts(path):
                    os.unlink(part)
        for directory in {os.path.dirname(name) for name in names}:
            with suppress(OSError):  # others have their output there
                os.rmdir(os.path.join(self._logs, directory))

    def remove_logs(self, newest: str) -> None:
        """Removes the output of all starts of a worker that is gone; `newest` is that of its last, below the log directory."""
        path = os.path.join(self._logs, newest)
        for part in logs.parts(path):
            os.unlink(part)
        with suppress(FileNotFoundError):
            os.unlink(logs.ready_path(path))
        logs.prune_starts(path, 1)


def _account(user: str | None) -> Account:
    entry = pwd.getpwuid(os.getuid()) if user is None else pwd.getpwnam(user)
    shell = entry.pw_shell or "/bin/sh"
    if user is None or entry.pw_uid == os.getuid():
        return Account(None, None, None, entry.pw_name, entry.pw_dir, shell)
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Account(entry.pw_uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir, shell)
