"""What the runtime needs of the place where processes run; the simulator has one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from reconciler.launcher.protocol import Message
from reconciler.resources.environment import ValueFrom


class Link(Protocol):
    """The way to the launcher."""

    def send(self, messages: Sequence[Message]) -> None:
        """Sends one frame, in order, without waiting."""
        ...


class Account(NamedTuple):
    """Who a process runs as; uid None is the daemon's own."""

    uid: int | None
    gid: int | None
    groups: list[int] | None
    name: str
    home: str
    shell: str


class Host(Protocol):
    """What has to be asked of the machine before a start."""

    path: str
    """PATH of `up`."""
    notify_path: str
    """The socket to which workers may say that they are ready."""
    temporary: str
    """Where workers that want a /tmp of their own get a directory instead; empty where the launcher can give them one."""

    def account(self, user: str | None) -> Account:
        """The account. Raises LookupError if there is none of that name."""
        ...

    def group(self, name: str) -> int:
        """The number of a group. Raises LookupError if there is none of that name."""
        ...

    def secret(self, reference: ValueFrom) -> str:
        """What a manifest only names. Raises SecretError."""
        ...

    def secret_variables(self, path: str) -> dict[str, str]:
        """A file of NAME=value lines. Raises SecretError."""
        ...

    def cpu_ms(self, pid: int) -> int | None:
        """The CPU time of a running task; None: it is not there any more."""
        ...

    def renice(self, pid: int, nice: int) -> None:
        """A running task yields to others that much. Raises OSError."""
        ...

    def remove_output(self, names: Sequence[str]) -> None:
        """Removes these files below the log directory, where they are."""
        ...

    def free_port(self) -> int:
        """A TCP port nobody listens on now."""
        ...

    def make_temporary(self, instance: str) -> None:
        """The directory of that name below `temporary`, if need be. Raises OSError."""
        ...

    def remove_temporary(self, instance: str) -> None:
        """Removes it with all that it holds, if there is one."""
        ...

    def remove_files(self, files: Sequence[str]) -> list[str]:
        """Removes files and sockets, never directories, links not followed; returns what could not be removed and why."""
        ...

    def remove_logs(self, newest: str) -> None:
        """Removes the output of all starts of a worker that is gone; `newest` is that of its last, below the log directory."""
        ...
