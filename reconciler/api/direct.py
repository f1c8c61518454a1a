"""The short way of what comes by the hundred a second: some tasks for a pool.

    POST /api/v1/pools/NAME/tasks, a short body -> staged at once -> one write when it is durable
    everything else, and whatever is refused    -> the application, which says why

Contract: it answers what the application would, or nothing at all and leaves it to that. It saves two dozen calls and a
system call a request, each of which finds the processor's caches full of what other processes needed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from reconciler.api import views
from reconciler.api.base import Daemon
from reconciler.api.server import may_call
from reconciler.api.submission import Submissions
from reconciler.errors import ReconcilerError

LONGEST_BODY_BYTES = 64 << 10
_TASKS = re.compile(r"/api/v1/pools/([^/]+)/tasks")


class Begun(NamedTuple):
    """A request whose work is staged."""

    durable: asyncio.Task[None]
    answer: Callable[[], bytes]
    """The body, once it is durable."""


class Direct:
    """Stands before the application; whoever asks is known to it as to the application."""

    def __init__(self, daemon: Daemon, submissions: Submissions) -> None:
        self._daemon = daemon
        self._submissions = submissions

    def takes(self, scope: Mapping[str, Any]) -> bool:
        """Whether this request may go the short way, as far as its head says."""
        if scope["method"] != "POST" or scope["query_string"] or not _TASKS.fullmatch(scope["path"]):
            return False
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        return length.isdigit() and int(length) <= LONGEST_BODY_BYTES and may_call(scope["state"].get("caller"))

    def begin(self, scope: Mapping[str, Any], body: bytes) -> Begun | None:
        """Stages what is asked for; None: it cannot be, and the application is to say why. Inside a running loop."""
        found = _TASKS.fullmatch(scope["path"])
        assert found is not None, "it takes nothing else"
        try:
            answer = self._submissions.take(found[1], body, scope["state"]["caller"])
        except ReconcilerError:
            return None  # nothing is staged: the application meets the same, and answers it
        return Begun(asyncio.get_running_loop().create_task(self._daemon.committed()), answer)

    def response(self, begun: Begun, keep_alive: bool) -> bytes:
        """The whole answer to a request whose commit is over. Raises what is not foreseen."""
        try:
            begun.durable.result()
            status, body = HTTPStatus.CREATED, begun.answer()
        except ReconcilerError as error:
            status, body = HTTPStatus(error.status), views.encode(views.problem(error)).encode()
        return b"HTTP/1.1 %d %s\r\ncontent-length: %d\r\ncontent-type: application/json\r\n%s\r\n%s" % (
            status,
            status.phrase.encode(),
            len(body),
            b"" if keep_alive else b"connection: close\r\n",
            body,
        )
