"""An open-loop load: batches of tasks at intended moments, whatever became of the ones before.

    load.py SOCKET POOL RATE_PER_S COUNT SAMPLE_EVERY [BATCH [TASK]]        prints JSON; a batch of 10, of `true`

Each batch is one POST, sent at its moment on a connection that is free then (a new one if none is). Of every
SAMPLE_EVERY-th batch the last task is waited for with a long poll, which answers when its end is durable and seen.
A process of its own, so that it keeps its moments; answers are kept as bytes and parsed when all is over.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable

TRUE = '{"command": ["true"]}'
DEADLINE_S = 60.0
"""How long the last answers may take after the last batch."""


class Connection:
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self._received = b""
        self._then: Callable[[bytes], None] | None = None

    def send(self, request: bytes, then: Callable[[bytes], None]) -> None:
        self._then = then
        self.socket.sendall(request)

    def closed(self) -> bool:
        """Whether the daemon has closed it, idle as it was."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def receive(self) -> bool:
        """Takes what has come; True when the answer was complete. Raises ConnectionError, RuntimeError (refused)."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the daemon closed a connection before it had answered")
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return False
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise RuntimeError(f"refused: {head[:40]!r} {body[:200]!r}")
        self._received = b""
        assert self._then is not None, "an answer without a question"
        then, self._then = self._then, None
        then(body)
        return True


class Load:
    """Sends, receives and remembers."""

    def __init__(self, path: str, pool: str, sample_every: int, batch: int = 10, task: str = TRUE) -> None:
        self._path, self._sample_every, self._batch = path, sample_every, batch
        tasks = json.dumps([json.loads(task)] * batch).encode()
        self._post = _request("POST", f"/api/v1/pools/{pool}/tasks", tasks)
        self._poll = select.poll()
        self._connections: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._opened = 0
        self.answers: list[tuple[int, float, bytes]] = []
        """(batch, when acknowledged, the tasks)"""
        self.seen: list[tuple[int, float]] = []
        """(batch, when the end of its last task was seen)"""

    def run(self, rate_per_s: float, count: int) -> dict[str, object]:
        """Offers `count` tasks. Raises TimeoutError when answers stay away."""
        start, wall = time.monotonic() + 0.2, time.time() + 0.2
        intended = [number * self._batch / rate_per_s for number in range(count // self._batch)]
        late_s = 0.0
        for number, at in enumerate(intended):
            while (left_s := start + at - time.monotonic()) > 0:
                self._receive(left_s)
            late_s = max(late_s, -left_s)
            self._ask(self._post, self._acknowledged(number))
        end = time.monotonic() + DEADLINE_S
        while len(self._free) < len(self._connections):
            if time.monotonic() > end:
                raise TimeoutError(f"answers are missing {DEADLINE_S:g} s after the last batch")
            self._receive(1.0)
        return {
            "tasks": {
                task["metadata"]["name"]: wall + intended[number]
                for number, _, body in self.answers
                for task in json.loads(body)
            },
            "acknowledged": [at - start - intended[number] for number, at, _ in self.answers],
            "seen": [at - start - intended[number] for number, at in self.seen],
            "late": late_s,
            "connections": self._opened,
        }

    def _acknowledged(self, number: int) -> Callable[[bytes], None]:
        def then(body: bytes) -> None:
            self.answers.append((number, time.monotonic(), body))
            if number % self._sample_every == 0:
                name = json.loads(body)[-1]["metadata"]["name"]
                query = f"/api/v1/wait?object=task/{name}&for=finished&timeout=60s"
                self._ask(_request("GET", query), lambda _: self.seen.append((number, time.monotonic())))

        return then

    def _ask(self, request: bytes, then: Callable[[bytes], None]) -> None:
        while self._free and self._free[-1].closed():
            self._forget(self._free[-1])
        if not self._free:
            connection = Connection(self._path)
            self._opened += 1
            self._connections[connection.socket.fileno()] = connection
            self._poll.register(connection.socket, select.POLLIN)
            self._free.append(connection)
        self._free.pop().send(request, then)

    def _receive(self, timeout_s: float) -> None:
        for fd, _ in self._poll.poll(timeout_s * 1000):
            connection = self._connections[fd]
            if connection in self._free:
                self._forget(connection)
            elif connection.receive():
                self._free.append(connection)

    def _forget(self, connection: Connection) -> None:
        """The daemon closes what has been idle for long: connections of a crowd that has passed."""
        self._free.remove(connection)
        fd = connection.socket.fileno()
        self._poll.unregister(fd)
        del self._connections[fd]
        connection.socket.close()


def _request(method: str, target: str, body: bytes = b"") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise RuntimeError(f"an answer without a length: {head!r}")


if __name__ == "__main__":
    load = Load(sys.argv[1], sys.argv[2], int(sys.argv[5]), *map(int, sys.argv[6:7]), *sys.argv[7:8])
    json.dump(load.run(float(sys.argv[3]), int(sys.argv[4])), sys.stdout)
