"""Who may talk to the daemon."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from tests.real.house import House

NOBODY = 65534


def test_fault_H1_another_user_of_the_host_is_kept_out_twice(shared: House, root: None) -> None:
    path = shared.state / "run" / "api.sock"
    assert as_nobody(path) == "EACCES"
    opened = {part: part.stat().st_mode for part in (shared.state, shared.state / "run", path)}
    try:
        for part in opened:  # even when somebody opened the door, the kernel says who asks
            part.chmod(0o777)
        assert as_nobody(path).startswith("HTTP/1.1 403"), as_nobody(path)
    finally:
        for part, mode in opened.items():
            part.chmod(mode)
    assert as_nobody(path) == "EACCES"
    assert shared.serving()


def as_nobody(path: Path) -> str:
    """What another user gets for an answer: the status line, or the error's name."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(30)
                client.connect(str(path))
                client.sendall(b"GET /api/v1/pools HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = client.recv(100).split(b"\r\n")[0]
        except PermissionError:
            answer = b"EACCES"
        except OSError as error:
            answer = repr(error).encode()
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    answer = os.read(reading, 1000)
    os.close(reading)
    os.waitpid(pid, 0)
    return answer.decode()


def test_fault_H14_no_token_can_leak_for_nothing_listens_on_an_abstract_socket_or_on_tcp(shared: House) -> None:
    inodes = set()
    for pid in (shared.launcher, shared.controller()):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed: it listens no more
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if link.startswith("socket:["):
                    inodes.add(link[8:-1])
    for family in ("tcp", "tcp6", "udp", "udp6"):
        table = Path(f"/proc/net/{family}")
        if table.exists():
            assert not [line for line in table.read_text().splitlines()[1:] if line.split()[9] in inodes]
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[6] in inodes and len(fields) > 7:
            assert not fields[7].startswith("@"), line
