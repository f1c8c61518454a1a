"""Entries as journald reads them, and what is done when it does not."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backends.journal import JournalSocket, datagram
from reconciler.resources.meta import Metadata
from reconciler.resources.worker import Worker, WorkerSpec, WorkerStatus

WEB = Worker(
    metadata=Metadata(name="web-0"),
    spec=WorkerSpec(pool="web", ordinal=0, template_hash="t1"),
    status=WorkerStatus(instance="abc.1", pid=17),
)


def fields(entry: bytes) -> dict[str, bytes]:
    """The fields of an entry in the native protocol."""
    found = {}
    while entry:
        name, _, rest = entry.partition(b"\n")
        (size,) = struct.unpack_from("<Q", rest)
        assert rest[8 + size : 9 + size] == b"\n"
        found[name.decode()] = rest[8 : 8 + size]
        entry = rest[9 + size :]
    return found


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket where journald's would be."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "socket"))
    sock.settimeout(30)
    yield sock
    sock.close()


def test_a_line_is_an_entry_that_says_whose_it_is(tmp_path: Path, journald: socket.socket) -> None:
    assert JournalSocket(str(tmp_path / "socket")).write(WEB, [b"ready", b"<3>broken \xff"]) == 2
    assert fields(journald.recv(4096)) == {
        "MESSAGE": b"ready",
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"web",
        "RECONCILER_POOL": b"web",
        "RECONCILER_WORKER": b"web-0",
        "RECONCILER_INSTANCE": b"abc.1",
        "SYSLOG_PID": b"17",
    }
    second = fields(journald.recv(4096))
    assert (second["MESSAGE"], second["PRIORITY"]) == (b"broken \xff", b"3")


@pytest.mark.parametrize("line", [b"<8>no priority", b"<>", b" <3>later", b"<33>", b""])
def test_only_what_begins_with_a_priority_has_one(line: bytes) -> None:
    assert fields(datagram(line, {}))["MESSAGE"] == line
    assert fields(datagram(line, {}))["PRIORITY"] == b"6"


def test_a_line_can_forge_no_field() -> None:
    found = fields(datagram(b"x\nRECONCILER_POOL=other", {b"RECONCILER_POOL": b"web"}))
    assert found["RECONCILER_POOL"] == b"web"


def test_without_a_journal_nothing_is_taken_and_with_the_next_one_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    journal = JournalSocket(str(path))
    with pytest.raises(FileNotFoundError, match=str(path)):
        journal.write(WEB, [b"lost?"])
    for text in (b"one", b"two"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(path))
        try:
            journal.write(WEB, [text])
        except ConnectionRefusedError:  # the one before has gone: the next try is for the new one
            journal.write(WEB, [text])
        assert fields(sock.recv(4096))["MESSAGE"] == text
        sock.close()
        path.unlink()
