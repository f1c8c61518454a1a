"""Tasks that come the short way are answered as all others are."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BODY = b'[{"command":["true"]},{"command":["false"]}]'
HEAD = b"POST /api/v1/pools/batch/tasks HTTP/1.1\r\nHost: x\r\n"
SHORT = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
LONG = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@contextmanager
def connected(house: Any) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(60)
        sock.connect(str(house.path))
        yield sock


def answers(sock: socket.socket, count: int) -> list[tuple[bytes, bytes]]:
    """(head, body) of so many answers, which come one after another."""
    data, found = b"", []
    while len(found) < count:
        part = sock.recv(1 << 16)
        assert part, f"closed after {found}, {data!r}"
        data += part
        while (end := data.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"content-length: (\d+)", data[:end])
            assert length is not None, data
            size = end + 4 + int(length[1])
            if len(data) < size:
                break
            found.append((data[:end], data[end + 4 : size]))
            data = data[size:]
    assert not data
    return found


def names(body: bytes) -> list[str]:
    return [task["metadata"]["name"] for task in json.loads(body)]


@pytest.fixture
def batch(house: Any) -> Any:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    return house


def test_both_ways_give_the_same_answer(batch: Any) -> None:
    with connected(batch) as sock:
        sock.sendall(SHORT)
        ((head, body),) = answers(sock, 1)
        sock.sendall(LONG)
        ((other_head, other_body),) = answers(sock, 1)
    assert (names(body), names(other_body)) == (["1", "2"], ["3", "4"])
    assert head.splitlines()[0] == other_head.splitlines()[0] == b"HTTP/1.1 201 Created"
    assert sorted(head.splitlines()) == sorted(other_head.splitlines())
    assert re.sub(rb'"(task-)?3"', rb'"\g<1>1"', re.sub(rb'"(task-)?4"', rb'"\g<1>2"', other_body)) == body


def test_requests_in_one_piece_are_answered_in_their_order(batch: Any) -> None:
    ready = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(batch) as sock:
        sock.sendall(SHORT + SHORT + ready + LONG + SHORT)
        found = [body for _, body in answers(sock, 5)]
    assert found[2] == b"ok\n"
    assert [names(found[number]) for number in (0, 1, 3, 4)] == [["1", "2"], ["3", "4"], ["5", "6"], ["7", "8"]]


@pytest.mark.parametrize("cut", [10, len(HEAD) + 3, len(SHORT) - len(BODY), len(SHORT) - 1])
def test_a_request_in_two_pieces_is_taken_whole(batch: Any, cut: int) -> None:
    with connected(batch) as sock:
        sock.sendall(SHORT[:cut])
        batch.within(lambda: None)
        sock.sendall(SHORT[cut:])
        assert [names(body) for _, body in answers(sock, 1)] == [["1", "2"]]


@pytest.mark.parametrize("line", [b"Connection: close\r\n", b"Expect: 100-continue\r\nConnection: close\r\n"])
def test_a_client_that_wants_the_connection_closed_has_it_closed(batch: Any, line: bytes) -> None:
    with connected(batch) as sock:
        sock.sendall(SHORT.replace(b"Host: x\r\n", b"Host: x\r\n" + line))
        said = b""
        while part := sock.recv(1 << 16):
            said += part
    assert b"HTTP/1.1 201 Created\r\n" in said and b"connection: close\r\n" in said
    assert names(said.rpartition(b"\r\n\r\n")[2]) == ["1", "2"]


def test_tasks_that_cannot_be_made_durable_are_refused(batch: Any) -> None:
    batch.daemon.full = True
    with connected(batch) as sock:
        sock.sendall(SHORT)
        ((head, body),) = answers(sock, 1)
        sock.sendall(LONG)
        ((other_head, other_body),) = answers(sock, 1)
    assert head.splitlines()[0] == other_head.splitlines()[0]
    assert json.loads(body) == json.loads(other_body)
    assert json.loads(body)["error"]["message"] == "the disk is full"


@pytest.mark.parametrize("full", [False, True])
def test_a_client_that_leaves_before_the_commit_harms_nobody(batch: Any, full: bool) -> None:
    batch.daemon.full = full
    with connected(batch) as sock:
        sock.sendall(SHORT * 3)
    with connected(batch) as sock:
        batch.daemon.full = False
        sock.sendall(SHORT)
        assert answers(sock, 1)[0][0].startswith(b"HTTP/1.1 201")


def test_what_is_refused_is_staged_neither_once_nor_twice(batch: Any) -> None:
    bad = b'[{"command":["true"]},{"command":[]}]'
    with connected(batch) as sock:
        sock.sendall(
            SHORT.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: %d" % len(bad))[: -len(BODY)] + bad
        )
        ((head, body),) = answers(sock, 1)
        assert head.startswith(b"HTTP/1.1 4") and json.loads(body)["error"]["reason"] == "Invalid"
        sock.sendall(SHORT)
        assert [names(body) for _, body in answers(sock, 1)] == [["1", "2"]]
