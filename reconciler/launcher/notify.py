"""The socket that workers notify: bound and held here, read by the controller, so that nothing is lost between two controllers.

It stands in the state directory, where only this user comes; a root's workers run as others, so theirs is in /run.
"""

from __future__ import annotations

import _socket as socket
import os
from _blake2 import blake2b
from contextlib import suppress

_SHARED = "/run"
"""Where only root can make files, and everybody can reach them."""


class NotifySocket:
    """Takes datagrams as sd_notify(3) sends them, each with the kernel's word for who sent it."""

    def __init__(self, directory: str) -> None:
        """Raises OSError."""
        # no longer a name than the API's: where that path is short enough for a socket, this one is
        self.path = os.path.join(directory, "run", "say.sock")
        mode = 0o600
        if os.geteuid() == 0 and os.access(_SHARED, os.W_OK):
            name = blake2b(os.fsencode(directory), digest_size=8).hexdigest()
            self.path, mode = f"{_SHARED}/reconciler-{name}.sock", 0o666
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        temporary = f"{self.path[:-5]}.next"
        with suppress(FileNotFoundError):
            os.unlink(temporary)  # of a launcher that was killed at this line
        self._sock.bind(temporary)
        os.chmod(temporary, mode)
        os.rename(temporary, self.path)
        self._inode = os.stat(self.path).st_ino

    def fileno(self) -> int:
        return self._sock.fileno()

    def remove(self) -> None:
        """Whoever speaks is then told that nobody listens."""
        with suppress(FileNotFoundError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
