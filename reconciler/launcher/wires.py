"""What reaches the launcher: signals through a pipe, the controller's frames over a socketpair; and its one voice, stderr."""

from __future__ import annotations

import _socket as socket
import os
import signal
from collections.abc import Sequence
from typing import Any

from .protocol import Decoder, Message, frame


class Signals:
    """Handlers for all that matters, and none ignored: what is exec'd from here then begins with a clean slate."""

    def __init__(self) -> None:
        for number in signal.valid_signals():
            if signal.getsignal(number) is signal.SIG_IGN:
                # ignored signals stay ignored over exec, handled ones do not
                signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else _nothing)
        self.fd, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def read(self) -> bytes:
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""


def _nothing(number: int, frame: object) -> None:
    """Taken note of through the wake-up descriptor."""


class Channel:
    """Frames over the socketpair to the controller; never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.fd = sock.fileno()
        self._decoder = Decoder()
        self._out = b""

    def read(self) -> tuple[list[list[Any]], bool]:
        """What has come, and whether more may come. Raises FrameError."""
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return [], True
        except ConnectionError:
            return [], False
        return list(self._decoder.feed(data)), bool(data)

    def send(self, messages: Sequence[Message]) -> bool:
        """True when nothing is left to send."""
        self._out += frame(messages)
        return self.flush()

    def flush(self) -> bool:
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._out = b""  # its end is seen by reading
        return not self._out

    def close(self) -> None:
        self._sock.close()


def complain(text: str) -> None:
    """One line on stderr; the launcher has no other voice when the controller is dead."""
    try:
        os.write(2, f"reconciler: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # nobody is left to tell
