"""Asking over the network: servers that answer well, badly, slowly and not at all."""

from __future__ import annotations

import asyncio
import gc
import resource
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends import ask
from reconciler.backends.ask import Answer
from tests.proc import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(serve: Serve, timeout_s: float = 60.0, context: ssl.SSLContext | None = None, **more: Any) -> Answer:
    """What comes of asking this server."""

    async def run() -> Answer:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        async with server:
            return await ask.http("127.0.0.1", port, "/healthz", timeout_s, **more)

    return asyncio.run(run())


def says(text: bytes) -> Serve:
    """A server that reads the request, answers, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        assert request.startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:")
        writer.write(text)
        writer.close()

    return serve


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (204, True), (301, True), (399, True), (400, False), (503, False)]
)
def test_200_to_399_is_a_success(status: int, ok: bool) -> None:
    answer = asked(says(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()))
    assert answer.ok is ok and answer.text.endswith(f"status {status}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 2000 X\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 \xff\xff\xff\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", "longer than"),
    ],
)
def test_what_is_no_answer_is_a_failure_that_says_so(text: bytes, why: str) -> None:
    answer = asked(says(text))
    assert answer.ok is False and why in answer.text


@pytest.mark.parametrize(
    "fields", [b"Content-Length: 99999999999", b"Content-Length: x", b"Transfer-Encoding: chunked"]
)
def test_a_body_that_is_not_what_it_says_changes_nothing(fields: bytes) -> None:
    assert asked(says(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n\r\nshort")).ok


def test_a_server_that_never_answers_costs_the_timeout_and_no_more() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    answer = asked(silent, timeout_s=0.1)
    assert answer.ok is False and "no answer within 0.1 s" in answer.text


def test_the_connection_is_closed_from_this_side_first_so_that_the_server_can_bind_again() -> None:
    ended = []

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.append(rest)

    async def run() -> None:
        port = free_port()
        server = await asyncio.start_server(patient, "127.0.0.1", port)
        assert (await ask.http("127.0.0.1", port, "/", 60.0)).ok
        async with asyncio.timeout(60):
            while not ended:
                await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()
        again = socket.socket()
        again.bind(("127.0.0.1", port))  # without SO_REUSEADDR
        again.close()

    asyncio.run(run())
    assert ended == [b""]


def test_connecting_is_refused_where_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        answer = asyncio.run(ask.tcp("127.0.0.1", port, 60.0))
    assert answer == Answer(False, f"127.0.0.1:{port}: Connection refused")


def test_an_error_of_this_side_says_nothing_of_the_worker() -> None:
    async def run() -> Answer:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        gc.collect()  # no file of an earlier test is closed in between
        with socket.socket() as lowest:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 1, hard))
            try:
                return await ask.tcp("127.0.0.1", 1, 60.0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    answer = asyncio.run(run())
    assert answer.ok is None and "Too many open files" in answer.text


def certificate(directory: Path) -> str:
    """One that nobody has signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = str(directory / "certificate.pem")
    words = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=web -keyout {path}.key -out {path}"
    subprocess.run(words.split(), check=True, capture_output=True)
    Path(path).write_text(Path(path).read_text() + Path(f"{path}.key").read_text())
    return path


def test_over_tls_whoever_answers_is_believed(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    serve = says(b"HTTP/1.1 204 X\r\n\r\n")
    answer = asked(serve, 60.0, context, tls=True)
    assert answer.ok and answer.text.startswith("GET https://127.0.0.1:") and answer.text.endswith("status 204")
    plain = asked(says(b"HTTP/1.1 204 X\r\n\r\n"), 0.5, tls=True)
    assert plain.ok is False


def test_who_speaks_no_tls_is_told_so() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    answer = asked(serve, 60.0, tls=True)
    assert answer.ok is False and ": no TLS: " in answer.text


def test_headers_are_sent_as_they_are_declared_and_ours_give_way() -> None:
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    assert asked(serve, 60.0, headers=[("host", "shop.example"), ("X-A", "1"), ("X-A", "2")]).ok
    lines = heard[0].decode().split("\r\n")
    assert [line for line in lines if line[:2].lower() in ("ho", "x-")] == ["host: shop.example", "X-A: 1", "X-A: 2"]
