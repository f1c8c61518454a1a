"""Asking a worker over the network: by HTTP or by connecting. Never waits for longer than it is told, and harms nobody.

The connection is closed from this side once the answer is there: a server that closes first would keep its port in
TIME_WAIT and could not bind it again after a restart.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

MAX_ANSWER_BYTES = 64 << 10
"""More of an answer is not read."""

_OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL))
"""Errors that say something of this side only."""


class Answer(NamedTuple):
    """What came of one try; `ok` None: it could not be made, which says nothing of the worker."""

    ok: bool | None
    text: str


async def tcp(host: str, port: int, timeout_s: float) -> Answer:
    """Connects, and closes at once."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        return Answer(False, f"{_at(host, port)}: nobody let us in within {timeout_s:g} s")
    except OSError as error:
        return _refused(error, host, port)
    return Answer(True, f"connected to {_at(host, port)}")


async def http(
    host: str, port: int, path: str, timeout_s: float, tls: bool = False, headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """GET; 200 to 399 is a success. Over TLS whoever answers at that address is believed."""
    where = f"GET {'https' if tls else 'http'}://{_at(host, port)}{path}"
    fields = {"Host": _at(host, port), "User-Agent": "reconciler-probe", "Accept": "*/*"}
    given = {name.lower() for name, _ in headers}
    lines = [f"{name}: {text}" for name, text in fields.items() if name.lower() not in given]
    lines += [f"{name}: {text}" for name, text in headers]
    request = "\r\n".join((f"GET {path} HTTP/1.1", *lines, "", ""))
    over: dict[str, Any] = {"ssl": _tls(), "ssl_shutdown_timeout": timeout_s} if tls else {}
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=MAX_ANSWER_BYTES, **over)
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            status = _status(head)
            if status is not None:
                await _rest(reader, head)
    except TimeoutError:
        return Answer(False, f"{where}: no answer within {timeout_s:g} s")
    except asyncio.LimitOverrunError:
        return Answer(False, f"{where}: the answer's head is longer than {MAX_ANSWER_BYTES} bytes")
    except asyncio.IncompleteReadError as error:
        what = "not HTTP" if error.partial else "the connection was closed without an answer"
        return Answer(False, f"{where}: {what}")
    except ssl.SSLError as error:
        return Answer(False, f"{where}: no TLS: {error.reason or error}")
    except OSError as error:
        return _refused(error, host, port)
    finally:
        if writer is not None:
            writer.close()
    if status is None:
        return Answer(False, f"{where}: not HTTP")
    return Answer(200 <= status < 400, f"{where}: status {status}")


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _status(head: bytes) -> int | None:
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
        return None
    return int(words[1])


async def _rest(reader: asyncio.StreamReader, head: bytes) -> None:
    """Reads what belongs to the answer, so that its sender sees no broken connection."""
    fields = {}
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip()] = value.strip()
    with suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        if b"content-length" in fields:
            await reader.readexactly(min(int(fields[b"content-length"]), MAX_ANSWER_BYTES))
        elif b"chunked" in fields.get(b"transfer-encoding", b""):
            await reader.readuntil(b"0\r\n\r\n")
        elif not head.startswith(b"HTTP/1.1 204") and not head.startswith(b"HTTP/1.1 304"):
            await reader.read(MAX_ANSWER_BYTES)


def _refused(error: OSError, host: str, port: int) -> Answer:
    ok = None if error.errno in _OURS else False
    return Answer(ok, f"{_at(host, port)}: {os.strerror(error.errno) if error.errno else error}")


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
