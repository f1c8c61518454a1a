"""Reads what workers say by themselves, and whose word it is: the kernel names the sender, /proc its parents.

    datagram + SCM_CREDENTIALS (pid, uid)  ->  Said(words, pid and its ancestors, session, token)

A sender that is gone when its word is read is believed by its pid only: nothing else of it can be known.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from reconciler.resources.notify import MAX_BYTES, Word, words

A_READ = 64
"""So many datagrams are read at once at most: a flood waits in the kernel, and the controller goes on."""

DEEPEST = 64
"""Ancestors looked at."""

_CREDENTIALS = struct.Struct("3i")
_TOKEN = b"RECONCILER_INSTANCE="


class Said(NamedTuple):
    """Words, and by which processes they may have been meant."""

    words: frozenset[Word]
    pids: tuple[int, ...]
    """The sender, its session's leader, and its ancestors."""
    instance: str
    """The token in the sender's environment; worth as much as its user."""
    uid: int


NOTHING = Said(frozenset(), (), "", -1)
"""A datagram without a word that means something here."""


def read(sock: socket.socket) -> Iterator[Said]:
    """What has come, some of it; what makes no sense is left aside."""
    size = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(256 * array.array("i").itemsize)
    for _ in range(A_READ):
        try:
            datagram, ancillary, _, _ = sock.recvmsg(MAX_BYTES + 1, size, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        sender = None
        for level, type_, content in ancillary:
            if level == socket.SOL_SOCKET and type_ == socket.SCM_CREDENTIALS:
                sender = _CREDENTIALS.unpack(content[: _CREDENTIALS.size])
            elif level == socket.SOL_SOCKET and type_ == socket.SCM_RIGHTS:
                for fd in array.array("i", content[: len(content) // 4 * 4]):
                    os.close(fd)  # nobody keeps descriptors here for others
        if sender is not None:
            pid, uid, _ = sender
            found = words(datagram)
            yield Said(found, tuple(_kin(pid)), _token(pid), uid) if found else NOTHING


def uid_of(pid: int) -> int:
    """Whose process it is; -1: it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return -1


def _kin(pid: int) -> Iterator[int]:
    for depth in range(DEEPEST):
        yield pid
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return
        if depth == 0:
            yield int(fields[3])
        pid = int(fields[1])
        if pid <= 1:
            return


def _token(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = file.read().split(b"\0")
    except OSError:
        return ""
    return next((os.fsdecode(pair[len(_TOKEN) :]) for pair in pairs if pair.startswith(_TOKEN)), "")
