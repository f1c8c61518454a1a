"""Lines to journald, by its native protocol: one datagram a line, with fields to select by.

    web-0 writes "<4>slow answer"  ->  MESSAGE=slow answer, PRIORITY=4, SYSLOG_IDENTIFIER=web,
                                       RECONCILER_POOL=web, RECONCILER_WORKER=web-0, RECONCILER_INSTANCE=..., SYSLOG_PID=17

    journalctl RECONCILER_POOL=web -p warning

A line that begins with <0> to <7> says its own priority, as those of systemd's services do (sd-daemon(3)).
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Mapping, Sequence

from reconciler.resources.worker import Worker

PATH = "/run/systemd/journal/socket"
USUAL_PRIORITY = b"6"

_PRIORITY = re.compile(rb"<([0-7])>")
_LENGTH = struct.Struct("<Q")


class JournalSocket:
    """A connection to journald, made when it is needed and again when it was lost."""

    def __init__(self, path: str = PATH) -> None:
        self.path = path
        self._sock: socket.socket | None = None

    def write(self, worker: Worker, lines: Sequence[bytes]) -> int:
        """Sends as many of the lines as are taken, and says how many. Raises OSError when not even the first is."""
        about = {
            b"SYSLOG_IDENTIFIER": worker.spec.pool.encode(),
            b"RECONCILER_POOL": worker.spec.pool.encode(),
            b"RECONCILER_WORKER": worker.name.encode(),
            b"RECONCILER_INSTANCE": worker.status.instance.encode(),
        }
        if worker.status.pid is not None:
            about[b"SYSLOG_PID"] = b"%d" % worker.status.pid
        for count, line in enumerate(lines):
            try:
                self._connected().send(datagram(line, about))
            except OSError:
                self._close()
                if not count:
                    raise
                return count
        return len(lines)

    def _connected(self) -> socket.socket:
        if self._sock is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                sock.connect(self.path)
            except OSError as error:
                sock.close()
                error.filename = self.path
                raise
            self._sock = sock
        return self._sock

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def datagram(line: bytes, about: Mapping[bytes, bytes]) -> bytes:
    """One entry: every field by its length, so that a line may hold any byte."""
    found = _PRIORITY.match(line)
    priority, text = (found[1], line[found.end() :]) if found is not None else (USUAL_PRIORITY, line)
    fields = {b"MESSAGE": text, b"PRIORITY": priority, **about}
    return b"".join(name + b"\n" + _LENGTH.pack(len(value)) + value + b"\n" for name, value in fields.items())
