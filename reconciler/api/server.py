"""Serves the API on a listening socket that somebody else holds, inside a running event loop.

    launcher binds run/api.sock  ->  controller inherits it  ->  serve()  ->  app, with scope["state"]["caller"]

Who calls is asked of the kernel (SO_PEERCRED), never of the client. The path of the socket belongs to the launcher: it
is neither made nor removed here. Limits on the head of a request stand here, that on its body in the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from reconciler.api.base import Caller

MAX_CONNECTIONS = 512
MAX_HEAD_BYTES = 64 << 10
KEEP_ALIVE_S = 30
_GRACE_S = 0.3
"""So long may answers under way be finished when serving ends."""
_PEER = struct.Struct("3i")


async def serve(app: Any, sock: socket.socket, ready: Callable[[], None]) -> None:
    """Answers on `sock` until cancelled; then every connection is closed within a second, streams too."""
    config = Config(
        _quiet(app),
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    config.load()
    state = ServerState()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    direct = app.state.direct
    server = await loop.create_server(lambda: _Connection(config, state, direct), sock=sock, backlog=MAX_CONNECTIONS)
    try:
        ready()
        await loop.create_future()
    finally:
        server.close()
        await _end(state)


async def _end(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.shutdown()
    if state.tasks:
        await asyncio.wait(set(state.tasks), timeout=_GRACE_S)
    for connection in list(state.connections):
        connection.transport.abort()
    await asyncio.sleep(0)  # streams hear of it now
    late = set(state.tasks)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=_GRACE_S)


def _quiet(app: Any) -> Any:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        # a request still open when serving ends is cancelled, which is no defect to be shown with a traceback
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return call


class _Connection(HttpToolsProtocol):
    """One client: knows who it is, and how much head it has sent; what may go the short way goes it."""

    def __init__(self, config: Config, state: ServerState, direct: Any) -> None:
        super().__init__(config, state, {})
        self._direct = direct
        self._unread: RequestResponseCycle | None = None
        """A request that goes the short way once its body is here."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.caller = _caller(transport.get_extra_info("socket"))
        self.head_bytes = 0
        self.head_too_long = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.head_bytes = 0
        self.scope["state"]["caller"] = self.caller

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._unread is not None and self._unread is self.cycle:
            self._unread = None
            self._begin(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Of uvicorn; should another version of it not call this any more, everything goes the long way."""
        short = app is self.app and not cycle.waiting_for_100_continue and not self.flow.write_paused
        if not short or not self._direct.takes(cycle.scope):
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._unread = cycle
        else:
            self._begin(cycle)

    def _begin(self, cycle: RequestResponseCycle) -> None:
        try:
            begun = self._direct.begin(cycle.scope, bytes(cycle.body))
        except Exception:  # a defect, which the application meets too, and answers
            begun = None
        if begun is None:
            super()._start_asgi_task(cycle, self.app)
            return
        self.tasks.add(begun.durable)
        begun.durable.add_done_callback(lambda _: self._finish(cycle, begun))

    def _finish(self, cycle: RequestResponseCycle, begun: Any) -> None:
        self.tasks.discard(begun.durable)
        if begun.durable.cancelled():
            return  # serving ends
        answer = self._direct.response(begun, cycle.keep_alive)
        if cycle.disconnected:
            return
        self.transport.write(answer)
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _count(self, count_bytes: int) -> None:
        self.head_bytes += count_bytes
        if self.head_bytes > MAX_HEAD_BYTES:
            self.head_too_long = True
            raise ValueError("the head of the request is too long")

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is answered in the same form as every other error, and the connection ends."""
        status, reason, text = b"400 Bad Request", "Invalid", msg
        if self.head_too_long:
            status, reason = b"431 Request Header Fields Too Large", "TooLarge"
            text = f"the head of the request has more than {MAX_HEAD_BYTES} bytes"
        body = json.dumps({"error": {"reason": reason, "message": text, "help": ""}}).encode()
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, len(body), body)
        )
        self.transport.close()


def _caller(sock: socket.socket) -> Caller:
    pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return Caller(uid=uid, pid=pid, user=_user(uid))


@lru_cache(maxsize=256)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def may_call(caller: Caller | None) -> bool:
    """Only root and the daemon's own user."""
    return caller is not None and caller.uid in (0, os.geteuid())
