"""HTTP/1.1 on one connection: a request, and its answer as it comes. Small imports, because every command begins here.

What the daemon refuses comes back as the error class it left the daemon as.
"""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.errors import ReconcilerError, Unavailable, Unreachable


class WentAway(Unreachable):
    """The connection ended within an answer."""


class Wire:
    """HTTP/1.1 on one connection: one request, one answer, of known length, in chunks or up to the end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""
        self.closing = False

    def close(self) -> None:
        self._sock.close()

    def stale(self) -> bool:
        """Whether the daemon has closed it meanwhile."""
        self._sock.setblocking(False)
        try:
            return self._sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def exchange(self, method: str, target: str, body: bytes, timeout_s: float | None) -> Iterator[bytes]:
        """Sends a request; yields the body of the answer. Raises what the daemon answered if that is an error."""
        self.send(method, target, body, timeout_s)
        yield from self.answer()

    def send(self, method: str, target: str, body: bytes, timeout_s: float | None) -> None:
        """Sends a request, whose `answer` is to be read next; `timeout_s` holds for both."""
        self._sock.settimeout(timeout_s)
        head = f"{method} {target} HTTP/1.1\r\nHost: reconciler\r\nContent-Length: {len(body)}\r\n\r\n"
        with self._told():
            try:
                self._sock.sendall(head.encode() + body)
            except (BrokenPipeError, ConnectionResetError):
                self.closing = True  # refused before all of it was sent: the answer says why

    def answer(self) -> Iterator[bytes]:
        """Yields the body of the answer. Raises what the daemon answered if that is an error."""
        with self._told():
            status, headers = self._head()
            parts = self._parts(headers)
            if status >= 400:
                raise error_of(status, _parsed(b"".join(parts)))
            yield from parts

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What fails of the connection, as one of our errors."""
        try:
            yield
        except TimeoutError:
            raise Unreachable(f"the daemon has not answered within {self._sock.gettimeout():.0f} s") from None
        except OSError as error:
            raise WentAway(f"the daemon went away: {error.strerror or error}") from None

    def _head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        self.closing = self.closing or headers.get("connection", "").lower() == "close"
        return int(first.split(" ", 2)[1]), headers

    def _parts(self, headers: dict[str, str]) -> Iterator[bytes]:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self._line(), 16):
                yield from self._take(size)
                self._line()
            self._line()
            return
        yield from self._take(int(headers.get("content-length", 0)))

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _take(self, size: int) -> Iterator[bytes]:
        while size:
            if not self._rest:
                self._more()
            part, self._rest = self._rest[:size], self._rest[size:]
            size -= len(part)
            yield part

    def _more(self) -> None:
        block = self._sock.recv(1 << 18)
        if not block:
            raise ConnectionResetError(errno.ECONNRESET, "the connection ended within an answer")
        self._rest += block


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return {"error": {"message": body.decode("utf-8", "replace").strip()}}


def error_of(status: int, answer: Any) -> ReconcilerError:
    """The error as it left the daemon."""
    told = answer.get("error", {}) if isinstance(answer, dict) else {}
    reason, message = told.get("reason", ""), told.get("message") or f"the daemon answered {status}"
    known = _by_reason().get(reason) or (Unavailable if status == 503 else ReconcilerError)
    error = known(message, told.get("help", ""))
    if isinstance(answer, dict) and "problems" in answer:
        error.problems = answer["problems"]  # type: ignore[attr-defined]
    return error


def _by_reason() -> dict[str, type[ReconcilerError]]:
    found: dict[str, type[ReconcilerError]] = {}
    open_ = [ReconcilerError]
    while open_:
        kind = open_.pop()
        found.setdefault(kind.reason, kind)
        open_ += kind.__subclasses__()
    return found
